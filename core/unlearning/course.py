"""What every method's run has in common: when to look, when to stop, which weights stay."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from core.unlearning.bench import Bench
from core.unlearning.failures import Cancelled
from core.unlearning.guard import Baseline, Guard
from core.unlearning.job import Parameters, StopReason
from core.unlearning.ledger import Row
from core.unlearning.objective import ForgetObjective

_STEPS_OVER_BUDGET = 40
"""How many steps a method has to bring the retain accuracy back before the run ends."""


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
        self._losses = baseline.forget.losses
        self._over_budget = 0
        self.rows: list[Row] = []

    @property
    def max_steps(self) -> int:
        """After how many steps the run ends at the latest."""
        return self._parameters.max_steps

    def run(self, report: Callable[[Row], None]) -> Run:
        """Step until something ends the run; ``report`` gets each row. The weights end within the retain budget."""
        try:
            reason = self._steps(report)
            rolled_back = not self._settle(reason)
        except Cancelled:
            reason, rolled_back = "cancelled", False
        self._release()
        if rolled_back and reason == "max_steps":
            reason = "retain_budget_exhausted"
        return Run(reason, self.rows, rolled_back)

    @abstractmethod
    def _step(self) -> tuple[Row | None, StopReason | None]:
        """The row of the next step, if there was one, and why there is to be no other, if so."""

    def _release(self) -> None:
        """Give up what only the steps needed."""
        for weight in self._bench.model.trainable.values():
            weight.grad = None

    def _steps(self, report: Callable[[Row], None]) -> StopReason:
        while len(self.rows) < self.max_steps:
            if reason := self._reason_to_stop():
                return reason
            row, reason = self._step()
            if row is not None:
                self.rows.append(row)
                report(row)
            if reason:
                return reason
        return self._reason_to_stop() or "max_steps"

    def _settle(self, reason: StopReason) -> bool:
        """Whether the weights may stay; otherwise the last ones within the budget were put back."""
        if reason not in ("target_reached", "retain_budget_exhausted", "non_finite"):
            self._guard.look(len(self.rows))
        if reason == "non_finite" or not self._guard.within_budget:
            self._guard.roll_back()
            return False
        return True

    def _reason_to_stop(self) -> StopReason | None:
        """Looks at the whole sets when that is due or the target seems reached."""
        if self._bench.cancelled():
            raise Cancelled
        step = len(self.rows)
        if self._guard.due(step) or (self._at_target() and self._guard.within_budget):
            self._guard.look(step)
        if self._guard.within_budget:
            self._over_budget = 0
            return "target_reached" if self._at_target() else None
        return "retain_budget_exhausted" if self._over_budget >= _STEPS_OVER_BUDGET else None

    def _at_target(self) -> bool:
        goal = self._guard.yardstick
        return goal is not None and float(self._losses.mean()) >= self._parameters.forget_target_ratio * goal

    def _objective(self) -> ForgetObjective:
        """Targets follow the holdout, whose losses move a little with the model; ranks are those before the run."""
        return ForgetObjective.matched(
            self._baseline.forget.losses, self._guard.stranger_losses, self._bench.model.device
        )
