"""The run: forget under HAMU's guarantee until the forget set looks like records the model never saw.

One step takes the gradient of the forget objective over the whole forget set and of the retain loss over one
minibatch, lets HAMU-Q find the cheapest move that gains its quota, and keeps it only if what was promised came true.
Nothing is tuned by hand: the trust region finds the step size, the quota stays below what is free of retain cost.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from core.hamu import Assessment
from core.unlearning.batches import Batch
from core.unlearning.bench import Bench
from core.unlearning.dials import LEAST_QUOTA, REGION, usable_quota
from core.unlearning.failures import Cancelled
from core.unlearning.guard import Baseline, Guard
from core.unlearning.hardness import make_optimizer
from core.unlearning.job import Parameters, StopReason
from core.unlearning.ledger import Kind, Row, Trial, ledger_row
from core.unlearning.objective import ForgetObjective

_CEILING = 1.1
"""No step is kept that lifts the forget loss above this multiple of the yardstick."""

_RETAIN_DRIFT = 0.01
_RETAIN_NOISE = 0.05
"""Retain loss may rise by the first share of the way from forget loss to yardstick before it is repaired; a small one
may double, up to the second share."""

_REPAIRS_BEFORE_GIVING_UP = 40
_MISSES_BEFORE_GIVING_UP = 8


@dataclass(frozen=True, slots=True)
class Run:
    """What the loop did; ``rows`` is its ledger."""

    stop_reason: StopReason
    rows: list[Row]
    rolled_back: bool
    """Whether the last weights were not kept: those of the last look within the retain budget were put back."""


class Unlearning:
    """One run over a bench; its ledger is ``rows``."""

    def __init__(self, bench: Bench, baseline: Baseline, parameters: Parameters) -> None:
        self._bench = bench
        self._baseline = baseline
        self._parameters = parameters
        self._guard = Guard(bench, baseline, parameters)
        self._optimizer = make_optimizer(bench, parameters)
        self._rates: dict[Kind, float] = dict.fromkeys(("forget", "repair"), parameters.learning_rate)
        self._retain = iter(bench.retain_batches)
        self._losses = baseline.forget.losses
        self._misses = 0
        self._repairs = 0
        self.rows: list[Row] = []

    def run(self, report: Callable[[Row], None]) -> Run:
        """Step until something ends the run; ``report`` gets each row. The weights end within the retain budget."""
        try:
            reason = self._steps(report)
            rolled_back = not self._settle(reason)
        except Cancelled:
            reason, rolled_back = "cancelled", False
        self._optimizer.release()
        if rolled_back and reason == "max_steps":
            reason = "retain_budget_exhausted"
        return Run(reason, self.rows, rolled_back)

    def _steps(self, report: Callable[[Row], None]) -> StopReason:
        while len(self.rows) < self._parameters.max_steps:
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
            self._repairs = 0
            return "target_reached" if self._at_target() else None
        return "retain_budget_exhausted" if self._repairs >= _REPAIRS_BEFORE_GIVING_UP else None

    def _at_target(self) -> bool:
        goal = self._guard.yardstick
        return goal is not None and float(self._losses.mean()) >= self._parameters.forget_target_ratio * goal

    def _step(self) -> tuple[Row | None, StopReason | None]:
        started = time.perf_counter()
        batch = self._bench.batch(next(self._retain))
        objective = self._objective()
        assessment = self._assess(batch, objective)
        if not bool(torch.isfinite(assessment.retain_loss + assessment.forget_loss)):
            return None, "non_finite"
        kind = self._kind(float(assessment.retain_loss))
        self._set_dials(kind, assessment)
        planned = self._optimizer.plan(assessment)
        if planned.stop_reason:
            return None, planned.stop_reason
        before = float(self._losses.mean())
        trials = list(self._trials(kind, assessment, batch, objective))
        row = ledger_row(
            len(self.rows) + 1,
            kind,
            trials,
            forget_loss=before,
            yardstick=self._guard.yardstick,
            seconds=time.perf_counter() - started,
        )
        return row, self._after(kind, trials[-1])

    def _objective(self) -> ForgetObjective:
        """Targets follow the holdout, whose losses move a little with the model; ranks are those before the run."""
        return ForgetObjective.matched(
            self._baseline.forget.losses, self._guard.stranger_losses, self._bench.model.device
        )

    def _assess(self, batch: list[Batch], objective: ForgetObjective) -> Assessment:
        return self._optimizer.assess(
            retain_loss=lambda: self._bench.mean_loss(batch), forget_loss=lambda: self._bench.forget_pass(objective)[0]
        )

    def _kind(self, retain_loss: float) -> Kind:
        """Repair when the retain set has suffered; after that forgetting goes on."""
        before = self._baseline.retain.loss
        way = (self._guard.yardstick or before) - self._baseline.forget.loss
        allowed = max(_RETAIN_DRIFT * way, min(before, _RETAIN_NOISE * way))
        return "repair" if not self._guard.within_budget or retain_loss > before + allowed else "forget"

    def _set_dials(self, kind: Kind, assessment: Assessment) -> None:
        """Quota below what is free of retain cost; a rate whose promise does not leap over the target."""
        group = self._optimizer.param_groups[0]
        wanted = self._parameters.quota_ratio if kind == "forget" else LEAST_QUOTA
        hardness = assessment.hardness
        group["quota_ratio"] = usable_quota(wanted, capacity=float(hardness.S), free_capacity=float(hardness.C))
        group["lr"] = self._rates[kind]
        if self._guard.yardstick is not None:
            promised = float(self._optimizer.plan(assessment).promised_forget_gain)
            left = -float(assessment.forget_loss)  # the objective ends at 0
            group["lr"] = REGION.limit(group["lr"], promised_gain=promised, remaining_gain=left)

    def _trials(
        self, kind: Kind, assessment: Assessment, batch: list[Batch], objective: ForgetObjective
    ) -> Iterator[Trial]:
        """The step at shrinking rates until one is kept or the retries are used up."""
        group = self._optimizer.param_groups[0]
        for retries in range(REGION.max_retries + 1):
            trial = self._try(assessment, batch, objective, retries)
            self._rates[kind] = group["lr"] = trial.decision.learning_rate
            if trial.kept:
                self._losses = trial.losses
            else:
                self._optimizer.retract(trial.step)
            yield trial
            if trial.kept:
                return

    @torch.no_grad()
    def _try(self, assessment: Assessment, batch: list[Batch], objective: ForgetObjective, retries: int) -> Trial:
        step = self._optimizer.apply(assessment)
        value, losses = self._bench.forget_pass(objective)
        retain_loss = float(self._bench.mean_loss(batch))
        before = float(assessment.forget_loss)
        dials = self._optimizer.param_groups[0]
        rate = dials["lr"]
        decision = REGION.judge(
            rate,
            promised_gain=float(step.promised_forget_gain),
            realised_gain=float(value) - before,
            predicted_retain_change=float(step.predicted_retain_change),
            realised_retain_change=retain_loss - float(assessment.retain_loss),
            retries=retries,
            resolution=1e-7 * max(abs(before), float(assessment.retain_loss)),
        )
        kept = decision.accepted and not self._over_ceiling(losses)
        if decision.accepted and not kept:
            decision = replace(decision, learning_rate=REGION.bounded(rate * REGION.shrink))
        return Trial(step, decision, kept, dials["quota_ratio"], losses, retain_loss, float(value) - before)

    def _over_ceiling(self, losses: NDArray[np.float64]) -> bool:
        """Whether a step rose above the ceiling; below where it started it may end up anywhere."""
        goal, mean = self._guard.yardstick, float(losses.mean())
        return goal is not None and mean > _CEILING * goal and mean > float(self._losses.mean())

    def _after(self, kind: Kind, last: Trial) -> StopReason | None:
        self._repairs += kind == "repair" and not self._guard.within_budget
        self._misses = 0 if last.kept else self._misses + 1
        if self._misses < _MISSES_BEFORE_GIVING_UP:
            return None
        return "collateral_forgetting_unavoidable" if last.decision.cause == "retain_overrun" else "infeasible"
