"""HAMU as a ``torch.optim.Optimizer``: assess both gradients, solve, add the step.

>>> optimizer = HAMU(model.parameters(), lr=1e-3, quota_ratio=0.5)
>>> for batch in retain_loader:
...     step = optimizer.step(retain_loss=lambda: loss(model, batch), forget_loss=forget_set_closure)
...     if step.should_stop:
...         break
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.distributed import ProcessGroup

from core.hamu.gram import add_combination, gram, lay_out
from core.hamu.hardness import StopRule
from core.hamu.ledger import Assessment, Step
from core.hamu.parallel import Exchange, Found, Pass, Share, alone, held_here, is_sharded
from core.hamu.planning import Dials, Partition, Planner, Variant, by_block
from core.hamu.quota import RULES, QuotaRule
from core.hamu.rounding import Rounding
from core.hamu.solve import Solver, solve

Block = Literal["tensor", "layer", "model"]
Closure = Callable[[], Tensor | Share]
Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]]


@dataclass(slots=True)
class _Held:
    """The gradients of the latest assessment, and the weights they belong to; of sharded ones, what lies here."""

    chosen: tuple[int, ...]
    """Which of the optimizer's weights take part."""
    weights: list[Tensor]
    retain: list[Tensor | None]
    forget: list[Tensor | None]
    partition: Partition
    found: Found
    applied: Step | None = None
    before: list[Tensor] | None = None
    """Copies of the weights before that step, if retracting has to be exact."""


class HAMU(torch.optim.Optimizer):
    """Hardness-aware multi-objective unlearning (arXiv 2606.02119), exact in every block.

    With r and f the gradients of the retain and the forget loss, each block of weights takes the step Δ with

    * variant ``"q"``: the least r·Δ subject to f·Δ ≥ Q and ‖Δ‖ ≤ R (a promised forget gain);
    * variant ``"u"``: the greatest f·Δ subject to -r·Δ ≥ Q and ‖Δ‖ ≤ R (a promised retain improvement).

    params: parameters, or (name, parameter) pairs as ``named_parameters()`` gives them. Duplicates count once; what
        does not require a gradient when a step is assessed takes no part in it.
    lr: η. Read from ``param_groups[0]["lr"]`` at every step, so schedulers work. R_i = η‖r_i‖ (``"u"``: η‖f_i‖).
    quota_ratio: Q as a share of the most a step can gain (η·S), in [0, 1]; also in ``param_groups[0]``.
    quota: how Q is shared among blocks: a name in ``quota.RULES`` or a function.
    block: one problem a tensor, a layer (tensors of one module; needs names) or for the whole model.
    radius: fixed total radius in units of weight instead of η‖r‖; shared as R_i ∝ ‖r_i‖. η then has no influence.
    radius_scope: ``"block"`` gives every block the whole ``radius``: L blocks may then move √L times as far.
    max_grad_norm: each gradient is scaled down to this norm first; None leaves them alone.
    stop_rule: ``"sign_aware"`` stops when Q/η exceeds C; ``"two_sided"`` is the published form; ``"none"``.
    stop_slack: stop this share of S earlier.
    on_infeasible: ``"stop"`` leaves the weights alone when a block's quota is out of its reach; ``"clip"`` takes the
        longest allowed step towards it and says so in the ledger.
    fixed_quota: Q itself, in units of the clipped loss, instead of ``quota_ratio``.
    exact_retract: keep a copy of the weights so that ``retract`` restores every bit; without, it subtracts the step
        again and each weight comes back to within a rounding.
    inner: optimizer that receives -Δ/η as gradient and moves the weights itself. The promise then holds only as far
        as it follows that direction, retracting needs ``exact_retract``, and a step waits for the device.
    rounding: ``"stochastic"`` rounds the moved weights up or down at random so that the expected step is exact; for
        weights kept in bfloat16 or float16, where the nearest number is mostly the old one. Retracting then needs
        ``exact_retract``. The draws follow ``rounding_seed`` in ``param_groups[0]``, which each applied step advances.
    rounding_seed: where they start; the same on every rank.
    solver: the solution of a block's problem; replaced only to reproduce the published code.
    group: process group over which the work is divided; all ranks take the same step (see ``parallel``). Give every
        rank the same weights, and the model itself, not wrapped in DistributedDataParallel. Parameters sharded by
        ``fully_shard`` need ``reshard_after_forward=True``: gathered weights that a forward pass without a backward
        pass leaves behind would hide the step from the next one.

    Memory: one set of gradients on top of what training needs, kept from ``assess`` until the next ``assess`` or
    ``release``. A step does not wait for the device unless its results are read.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        *,
        quota_ratio: float = 0.5,
        variant: Variant = "q",
        quota: str | QuotaRule = "gradient_norm",
        block: Block = "tensor",
        radius: float | None = None,
        radius_scope: Literal["total", "block"] = "total",
        max_grad_norm: float | None = 1.0,
        stop_rule: StopRule = "sign_aware",
        stop_slack: float = 0.0,
        on_infeasible: Literal["stop", "clip"] = "stop",
        fixed_quota: float | None = None,
        exact_retract: bool = False,
        inner: torch.optim.Optimizer | None = None,
        rounding: Rounding = "nearest",
        rounding_seed: int = 0,
        solver: Solver = solve,
        group: ProcessGroup | None = None,
    ) -> None:
        _require(lr >= 0, "lr must not be negative")
        _require(0 <= quota_ratio <= 1, "quota_ratio is a share: between 0 and 1")
        _require(variant in ("q", "u"), "variant is 'q' or 'u'")
        _require(block in ("tensor", "layer", "model"), "block is 'tensor', 'layer' or 'model'")
        _require(callable(quota) or quota in RULES, f"quota is one of {', '.join(RULES)} or a function")
        _require(radius is None or radius > 0, "radius must be positive")
        _require(max_grad_norm is None or max_grad_norm > 0, "max_grad_norm must be positive")
        _require(stop_rule in ("sign_aware", "two_sided", "none"), "stop_rule is 'sign_aware', 'two_sided' or 'none'")
        _require(rounding in ("nearest", "stochastic"), "rounding is 'nearest' or 'stochastic'")
        _require(rounding == "nearest" or inner is None, "stochastic rounding is not for an inner optimizer's steps")
        names, weights = _named(params)
        _require(block != "layer" or all(names), "block 'layer' needs names: pass model.named_parameters()")
        seed = {} if rounding == "nearest" else {"rounding_seed": rounding_seed}
        super().__init__(weights, {"lr": lr, "quota_ratio": quota_ratio} | seed)
        _require(len(self.param_groups) == 1, "HAMU takes one group of parameters")
        self._weights = weights
        self._block_names = _block_names(names, block)
        self._planner = Planner(
            variant=variant,
            quota_rule=RULES[quota] if isinstance(quota, str) else quota,
            radius=radius,
            radius_scope=radius_scope,
            max_grad_norm=max_grad_norm,
            stop_rule=stop_rule,
            stop_slack=stop_slack,
            on_infeasible=on_infeasible,
            fixed_quota=fixed_quota,
            solver=solver,
        )
        self._exact_retract = exact_retract
        self._inner = inner
        self._rounding: Rounding = rounding
        sharded = [is_sharded(weight) for weight in weights]
        _require(group is not None or not any(sharded), "sharded parameters need their group")
        _require(  # whole ones would be rounded by draws that depend on what else a rank holds
            rounding == "nearest" or all(sharded) or not any(sharded),
            "stochastic rounding needs all parameters to be sharded, or none",
        )
        self._exchange = None if group is None else Exchange(weights, group)
        self._held: _Held | None = None
        self._partitions: dict[tuple[int, ...], Partition] = {}
        self._serial = 0

    def assess(self, *, retain_loss: Closure | None, forget_loss: Closure | None) -> Assessment:
        """Accumulate both gradients and measure the hardness. The weights stay as they are.

        A closure returns its loss (0-d). If that still requires a gradient, ``backward`` is called here; if not, the
        closure has done so itself, for example in micro-batches, and its gradients are found in ``.grad``.
        ``.grad`` is empty before, between and after the two calls.

        With a group a closure goes through this rank's share of the set and returns a ``Share``, or the bare mean if
        all shares weigh the same; None on a rank that has no part in that loss.
        """
        self.release()
        held = self._hold(self._pass(retain_loss), self._pass(forget_loss))
        parts = held.found.parts
        norms = parts[:, :2].sum(0).sqrt()
        clips = self._planner.clip(norms[0]), self._planner.clip(norms[1])
        self._held, self._serial = held, self._serial + 1
        return Assessment(
            retain_loss=held.found.retain_loss,
            forget_loss=held.found.forget_loss,
            gram=by_block(parts, held.partition),
            parts=parts,
            retain_clip=clips[0],
            forget_clip=clips[1],
            hardness=self._planner.measure(self._planner.pose(parts, clips, held.partition, self._dials), self._dials),
            serial=self._serial,
        )

    def plan(self, assessment: Assessment) -> Step:
        """The step that ``apply`` would take at the current rate and quota. The weights stay as they are."""
        partition = self._current(assessment).partition
        return self._planner.plan(assessment, partition, self._dials)

    @torch.no_grad()
    def apply(self, assessment: Assessment) -> Step:
        """Solve at the current rate and quota and add Δ to the weights, unless the step says to stop.

        Raises ``ValueError`` unless ``assessment`` is the latest and no other step of it is in force.
        """
        held = self._current(assessment)
        if held.applied is not None:
            raise ValueError("retract the step taken from this assessment before taking another")
        step = self.plan(assessment)
        if self._exact_retract:
            held.before = [weight.clone() for weight in held.weights]
        if self._inner is None:
            self._add(held, held.weights, step, draws=self._draws(held))
        elif not bool(step.should_stop) and step.rate > 0:
            self._hand_over(self._inner, held, step)
        held.applied = step
        self._opt_called = True  # what ``Optimizer.step`` leaves behind for the schedulers' order check
        return step

    @torch.no_grad()
    def retract(self, step: Step) -> None:
        """Take the last applied step back. Possible until the next assessment, which drops the gradients.

        Every bit is restored with ``exact_retract``; otherwise each weight to within one rounding of its type.
        Raises ``ValueError`` if ``step`` is not the one in force, or if an inner optimizer took it or it was rounded
        stochastically and no exact copy was kept. The state of an inner optimizer is not taken back.
        """
        held = self._held
        if held is None or held.applied is not step:
            raise ValueError("only the last applied step can be retracted, and only before the next assessment")
        if held.before is not None:
            for weight, before in zip(held.weights, held.before, strict=True):
                weight.copy_(before)
        elif self._inner is not None or self._rounding == "stochastic":
            raise ValueError("this step can be retracted only with exact_retract")
        else:
            self._add(held, held.weights, step, sign=-1.0)
        held.applied = held.before = None

    @torch.no_grad()
    def step(self, *, retain_loss: Closure | None, forget_loss: Closure | None) -> Step:  # pyright: ignore[reportIncompatibleMethodOverride]
        """``assess`` and ``apply`` in one. If ``should_stop`` is set the weights are as they were."""
        return self.apply(self.assess(retain_loss=retain_loss, forget_loss=forget_loss))

    def release(self) -> None:
        """Drop the gradients of the latest assessment; its step can then be neither applied nor retracted."""
        self._held = None
        for weight in self._weights:
            weight.grad = None

    @property
    def _dials(self) -> Dials:
        """What may change from step to step: η is 1 with a fixed radius, on which the rate has no influence."""
        group = self.param_groups[0]
        return Dials(1.0 if self._planner.radius is not None else group["lr"], group["quota_ratio"])

    def _pass(self, closure: Closure | None) -> Pass:
        """A closure's loss and gradients; ``.grad`` is handed over, not copied."""
        share = weighted = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
                share = found if isinstance(found, Share) else Share(found)
                weighted = share.loss.requires_grad
                if weighted:
                    torch.autograd.backward(share.loss if self._exchange is None else share.loss * share.weight)
        gradients = [weight.grad if weight.requires_grad else None for weight in self._weights]
        for weight in self._weights:
            weight.grad = None
        if self._exchange is None:
            return Pass(share, gradients)
        return self._exchange.begin(share, gradients, weighted=bool(weighted))

    def _hold(self, retain: Pass, forget: Pass) -> _Held:
        """Keep what has a gradient on either side, the other side then counting as zero, and measure it."""
        sides = zip(retain.gradients, forget.gradients, strict=True)
        chosen = tuple(i for i, (r, f) in enumerate(sides) if r is not None or f is not None)
        if not chosen:
            raise ValueError("neither loss reaches a parameter that requires a gradient")
        if chosen not in self._partitions:
            self._partitions[chosen] = self._partition(chosen)
        partition = self._partitions[chosen]
        retain_here, forget_here = [retain.gradients[i] for i in chosen], [forget.gradients[i] for i in chosen]
        retain.wait()
        forget.wait()
        parts = gram(partition.layout, retain_here, forget_here)
        return _Held(
            chosen=chosen,
            weights=[held_here(self._weights[i]) for i in chosen],
            retain=retain_here,
            forget=forget_here,
            partition=partition,
            found=alone(parts, retain, forget)
            if self._exchange is None
            else self._exchange.end(parts, retain, forget, chosen),
        )

    def _partition(self, chosen: tuple[int, ...]) -> Partition:
        layout = lay_out([held_here(self._weights[i]) for i in chosen])
        names = [self._block_names[i] for i in chosen]
        order = {name: index for index, name in enumerate(dict.fromkeys(names))}
        block_of = torch.tensor([order[name] for name in names])
        members = torch.arange(len(order))[:, None] == block_of[None, :]
        device = layout.devices[0]
        return Partition(
            layout=layout,
            block_of=block_of.to(device),
            members=None if len(order) == len(names) else members.to(device, torch.float64),
        )

    def _current(self, assessment: Assessment) -> _Held:
        if self._held is None or assessment.serial != self._serial:
            raise ValueError("this assessment's gradients are gone: only the latest can be used")
        return self._held

    def _draws(self, held: _Held) -> dict[torch.device, Generator] | None:
        """Fresh generators for one step's rounding, None for rounding to the nearest."""
        if self._rounding == "nearest":
            return None
        group = self.param_groups[0]
        group["rounding_seed"] += 1
        devices = set(held.partition.layout.devices)
        return {device: Generator(device).manual_seed(group["rounding_seed"]) for device in devices}

    def _add(
        self,
        held: _Held,
        targets: list[Tensor],
        step: Step,
        *,
        sign: float | Tensor = 1.0,
        draws: dict[torch.device, Generator] | None = None,
    ) -> None:
        add_combination(
            held.partition.layout,
            targets,
            held.retain,
            held.forget,
            along_forget=step.along_forget * held.found.forget_scale * sign,
            along_retain=step.along_retain * held.found.retain_scale * sign,
            wanted=~step.should_stop,
            draws=draws,
        )

    def _hand_over(self, inner: torch.optim.Optimizer, held: _Held, step: Step) -> None:
        """Let ``inner`` move the weights along -Δ/η at the rate η."""
        weights = [self._weights[i] for i in held.chosen]
        gradients = [torch.zeros_like(weight) for weight in weights]
        self._add(held, [held_here(gradient) for gradient in gradients], step, sign=-1.0 / step.rate)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        for group in inner.param_groups:
            group["lr"] = step.rate
        inner.step()
        for weight in weights:
            weight.grad = None


def _named(params: Parameters) -> tuple[list[str], list[Tensor]]:
    """Names ('' where there are none) and parameters, each parameter once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for entry in params:
        if isinstance(entry, dict):
            raise ValueError("HAMU takes one group of parameters: pass the parameters themselves")
        name, weight = ("", entry) if isinstance(entry, Tensor) else entry
        found.setdefault(id(weight), (name, weight))
    names = [name for name, _ in found.values()]
    return names, [weight for _, weight in found.values()]


def _block_names(names: list[str], block: Block) -> list[str]:
    """The block that each parameter belongs to."""
    if block == "model":
        return ["" for _ in names]
    if block == "layer":
        return [name.rpartition(".")[0] for name in names]
    return [str(index) for index in range(len(names))]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
