"""What every method's run has in common: when to look, when to stop, which weights stay."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

from core.unlearning.batches import Batch
from core.unlearning.bench import Bench
from core.unlearning.checkpoint import State
from core.unlearning.failures import Cancelled
from core.unlearning.guard import Baseline, Guard
from core.unlearning.job import Parameters, StopReason
from core.unlearning.ledger import Row
from core.unlearning.objective import ForgetObjective, standing
from core.unlearning.seed import random_state, restore_random_state
from core.unlearning.targets import Standing, forget_loss, membership

_STEPS_OVER_BUDGET = 40
"""How many steps a method has to bring the retain accuracy back before the run ends."""

_STEPS_AT_TARGET_LOSS = 15
"""How many steps it has to meet the other targets once the forget loss has reached its own."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a course did; ``rows`` is its ledger."""

    stop_reason: StopReason
    rows: list[Row]
    rolled_back: bool
    """Whether the last weights were not kept: those of the last look within the retain budget were put back."""


class Course(ABC):
    """One run over a bench, step by step; its ledger is ``rows``. A method adds what a step is."""

    def __init__(self, bench: Bench, baseline: Baseline, parameters: Parameters) -> None:
        self._bench = bench
        self._baseline = baseline
        self._parameters = parameters
        self._guard = Guard(bench, baseline, parameters)
        self._retain = iter(bench.retain_batches)
        self._minibatches = 0
        self._losses = baseline.forget.losses
        self._over_budget = 0
        self._at_target_loss = 0
        self.rows: list[Row] = []

    @property
    def max_steps(self) -> int:
        """After how many steps the run ends at the latest."""
        return self._parameters.max_steps

    def run(self, report: Callable[[Row], None], checkpoint: Callable[[], None] = lambda: None) -> Run:
        """Step until something ends the run; ``report`` gets each row. The weights end within the retain budget.

        ``checkpoint`` is called after each step that is not the last, and when the run is cancelled; what ``state``
        gives then can be gone on from.
        """
        try:
            reason = self._steps(report, checkpoint)
            rolled_back = not self._settle(reason)
        except Cancelled:  # which comes between two steps only
            checkpoint()
            reason, rolled_back = "cancelled", False
        self._release()
        self._retain = iter(())  # nobody reads ahead any more
        if rolled_back and reason == "max_steps":
            reason = "retain_budget_exhausted"
        return Run(reason, self.rows, rolled_back)

    def state(self) -> State:
        """Where the course stands between two steps: from here it goes on to the same weights, bit for bit on a CPU."""
        counts = {"over_budget": self._over_budget, "at_target_loss": self._at_target_loss}
        facts = {"rows": list(self.rows), **counts, "minibatches": self._minibatches}
        state = State({"losses": torch.from_numpy(self._losses)}, facts)
        state.put("weights", State(self._bench.copy_weights()))
        state.put("guard", self._guard.state())
        state.put("random", random_state(self._bench.model.device))
        return state

    def restore(self, state: State) -> None:
        """Go to where another course of the same job stood; this one must not have begun."""
        self._losses = state.tensors["losses"].numpy()
        self.rows = list(state.facts["rows"])
        self._over_budget = int(state.facts["over_budget"])
        self._at_target_loss = int(state.facts["at_target_loss"])
        self._minibatches = int(state.facts["minibatches"])
        self._retain = self._bench.retain_batches.after(self._minibatches)
        self._bench.restore_weights(state.part("weights").tensors)
        self._guard.restore(state.part("guard"))
        restore_random_state(state.part("random"), self._bench.model.device)

    @abstractmethod
    def _step(self) -> tuple[Row | None, StopReason | None]:
        """The row of the next step, if there was one, and why there is to be no other, if so."""

    def _release(self) -> None:
        """Give up what only the steps needed."""
        for weight in self._bench.model.trainable.values():
            weight.grad = None

    def _minibatch(self) -> list[Batch]:
        """This process's part of the next retain minibatch, as micro-batches on the device."""
        self._minibatches += 1
        return self._bench.shared_batch(next(self._retain))

    def _steps(self, report: Callable[[Row], None], checkpoint: Callable[[], None]) -> StopReason:
        while len(self.rows) < self.max_steps:
            if reason := self._reason_to_stop():
                return reason
            row, reason = self._step()
            if row is not None:
                self.rows.append(row)
                self._at_target_loss += self._loss_at_target
                report(row)
            if reason:
                return reason
            checkpoint()
        return self._reason_to_stop() or "max_steps"

    def _settle(self, reason: StopReason) -> bool:
        """Whether the weights may stay; otherwise the last ones within the budget were put back."""
        if reason not in ("target_reached", "targets_unmet", "retain_budget_exhausted", "non_finite"):
            self._guard.look(len(self.rows))
        if reason == "non_finite" or not self._guard.within_budget:
            self._guard.roll_back()
            return False
        return True

    def _reason_to_stop(self) -> StopReason | None:
        """Looks at the whole sets when that is due or the target seems reached."""
        self._bench.check_cancelled()
        step = len(self.rows)
        if self._guard.due(step) or (self._at_target() and self._guard.within_budget):
            self._guard.look(step)
        if self._guard.within_budget:
            self._over_budget = 0
            return "target_reached" if self._at_target() else self._given_up()
        return "retain_budget_exhausted" if self._over_budget >= _STEPS_OVER_BUDGET else None

    @property
    def _loss_at_target(self) -> bool:
        return forget_loss(self._losses, self._guard.yardstick, self._parameters).met

    def _at_target(self) -> bool:
        """Whether every target but the retain budget is met, as far as the last look can tell."""
        return self._loss_at_target and self._guard.unharmed and self._membership.met

    @property
    def _membership(self) -> Standing:
        return membership(self._losses, self._guard.holdout.losses, self._parameters)

    def _given_up(self) -> StopReason | None:
        """Long enough at the target loss without meeting the rest, or beyond strangers, where no step leads back."""
        beyond = self._loss_at_target and self._membership.value < self._membership.at_least
        if self._at_target_loss < _STEPS_AT_TARGET_LOSS and not beyond:
            return None
        self._guard.look(len(self.rows))
        if not self._guard.within_budget:
            return None
        return "target_reached" if self._at_target() else "targets_unmet"

    def _objective(self, device: torch.device | None = None) -> ForgetObjective:
        """Targets follow the holdout, whose losses move a little with the model, and the ranks of the forget set."""
        ranks = standing(self._baseline.forget.losses, self._losses)
        return ForgetObjective.matched(ranks, self._guard.stranger_losses, device)
