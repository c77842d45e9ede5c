"""A peer's run: its own gradients, AdamW, and HAMU's target, budget and ledger."""

import math
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.hamu.baselines.gradients import shortened
from core.unlearning.bench import Bench
from core.unlearning.checkpoint import State
from core.unlearning.course import Course
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters, StopReason
from core.unlearning.ledger import Row, peer_row
from core.unlearning.objective import value_of
from core.unlearning.peer import Sides, peer_module

_LEAST_NORM = 1e-12
"""A shorter gradient is not made longer by clipping."""


class PeerCourse(Course):
    """Steps of AdamW along a peer's gradient, clipped to ``max_grad_norm``; none is taken back on its own."""

    def __init__(self, bench: Bench, baseline: Baseline, parameters: Parameters) -> None:
        """Raises ``UnlearningError`` for an unknown method, or one that this model does not allow."""
        super().__init__(bench, baseline, parameters)
        self._peer = peer_module(parameters.method).build(Sides(bench, baseline, parameters))
        self._weights = list(bench.model.trainable.values())
        self._optimizer = torch.optim.AdamW(
            self._weights, lr=parameters.learning_rate, weight_decay=parameters.weight_decay
        )
        self._losses = baseline.forget.losses if self._peer.steps is None else self._forget_losses()

    @property
    def max_steps(self) -> int:
        """Its own number of steps if the method has one, else the policy's."""
        return self._parameters.max_steps if self._peer.steps is None else self._peer.steps

    def state(self) -> State:
        """Also the moments of AdamW, whose rate is set anew by every step."""
        state = super().state()
        moments = self._optimizer.state_dict()["state"]
        named = {f"{index}/{name}": value for index, kept in moments.items() for name, value in kept.items()}
        state.put("optimizer", State({name: value.to("cpu", copy=True) for name, value in named.items()}))
        return state

    def restore(self, state: State) -> None:
        super().restore(state)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.part("optimizer").tensors.items():
            index, _, name = key.partition("/")
            moments.setdefault(int(index), {})[name] = value.clone()
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _reason_to_stop(self) -> StopReason | None:
        """A method with its own number of steps is looked at only when it has taken them all."""
        if self._peer.steps is None:
            return super()._reason_to_stop()
        self._bench.check_cancelled()
        if len(self.rows) < self._peer.steps:
            return None
        self._guard.look(len(self.rows))
        return "target_reached" if self._guard.within_budget and self._at_target() else None

    def _step(self) -> tuple[Row | None, StopReason | None]:
        started = time.perf_counter()
        batch = self._minibatch()
        with torch.no_grad():
            retain_loss = float(self._bench.mean_loss(batch))
        if not math.isfinite(retain_loss + float(self._losses.mean())):
            return None, "non_finite"
        objective = self._objective()  # on the host, where the losses are
        before, moved = self._losses, self._descend(self._peer.gradients(batch))
        self._losses = self._forget_losses()
        with torch.no_grad():
            retain_loss_after = float(self._bench.mean_loss(batch))
        row = peer_row(
            len(self.rows) + 1,
            forget_loss=float(before.mean()),
            forget_loss_after=float(self._losses.mean()),
            retain_loss=retain_loss,
            retain_loss_after=retain_loss_after,
            gain=value_of(objective, self._losses) - value_of(objective, before),
            yardstick=self._guard.yardstick,
            learning_rate=self._optimizer.param_groups[0]["lr"],
            update_norm=moved,
            seconds=time.perf_counter() - started,
        )
        finite = math.isfinite(retain_loss_after + float(self._losses.mean()))
        self._over_budget += not self._guard.within_budget
        return row, None if finite else "non_finite"

    @torch.no_grad()
    def _descend(self, gradients: list[Tensor | None]) -> float:
        """One step of AdamW; how far the weights moved."""
        before = [weight.clone() for weight in self._weights]
        clipped = shortened(gradients, self._parameters.max_grad_norm, _LEAST_NORM)
        for weight, gradient in zip(self._weights, clipped, strict=True):
            weight.grad = gradient
        self._optimizer.param_groups[0]["lr"] = self._parameters.learning_rate * self._peer.rate(len(self.rows))
        self._optimizer.step()
        self._optimizer.zero_grad()
        steps = zip(self._weights, before, strict=True)
        return math.sqrt(math.fsum(float((weight - start).double().square().sum()) for weight, start in steps))

    @torch.no_grad()
    def _forget_losses(self) -> NDArray[np.float64]:
        return self._bench.forget_pass(lambda losses, _: losses)[1]
