"""The run: forget under HAMU's guarantee until the forget set looks like records the model never saw.

One step takes the gradient of the forget objective over the whole forget set and of the retain loss over one
minibatch, lets HAMU-Q find the cheapest move that gains its quota, and keeps it only if what was promised came true.
Nothing is tuned by hand: the trust region finds the step size, the quota stays below what is free of retain cost.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from core.hamu import Assessment
from core.unlearning.batches import Batch
from core.unlearning.bench import Bench
from core.unlearning.checkpoint import State
from core.unlearning.course import Course
from core.unlearning.dials import LEAST_QUOTA, REGION, RETAIN_DRIFT, usable_quota
from core.unlearning.guard import Baseline
from core.unlearning.hardness import make_optimizer
from core.unlearning.job import Parameters, StopReason
from core.unlearning.ledger import Kind, Row, Trial, ledger_row
from core.unlearning.objective import ForgetObjective, rounding

_CEILING = 1.1
"""No step is kept that lifts the forget loss above this multiple of the yardstick."""

_REPAIR_BATCHES = 4
"""Retain minibatches of a step while a budget is exceeded."""

_MISSES_BEFORE_GIVING_UP = 8


class Unlearning(Course):
    """HAMU-Q's course over a bench."""

    def __init__(self, bench: Bench, baseline: Baseline, parameters: Parameters) -> None:
        super().__init__(bench, baseline, parameters)
        self._optimizer = make_optimizer(bench, parameters)
        self._rates: dict[Kind, float] = dict.fromkeys(("forget", "repair"), parameters.learning_rate)
        self._misses = 0

    def state(self) -> State:
        """Also the rates that the trust region has found; the other dials are set anew by every step."""
        state = super().state()
        state.facts |= {"rates": dict(self._rates), "misses": self._misses}
        return state

    def restore(self, state: State) -> None:
        super().restore(state)
        self._rates = {"forget": state.facts["rates"]["forget"], "repair": state.facts["rates"]["repair"]}
        self._misses = int(state.facts["misses"])

    def _release(self) -> None:
        self._optimizer.release()

    def _step(self) -> tuple[Row | None, StopReason | None]:
        started = time.perf_counter()
        batch = self._batch()
        objective = self._objective(self._bench.model.device)
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

    def _assess(self, batch: list[Batch], objective: ForgetObjective) -> Assessment:
        return self._optimizer.assess(**self._bench.goals(batch, objective.values))

    def _batch(self) -> list[Batch]:
        """A minibatch; several as one while a budget is exceeded, since what was harmed lies in few of them."""
        return [part for _ in range(1 if self._guard.unharmed else _REPAIR_BATCHES) for part in self._minibatch()]

    def _kind(self, retain_loss: float) -> Kind:
        """Repair while the retain budget is exceeded, and every other step while retain loss or holdout suffer.

        What a repair keeps of the forget objective bounds its length, so waiting for these to come back could take
        all the steps that there are.
        """
        if not self._guard.within_budget:
            return "repair"
        before = self._baseline.retain.loss
        way = (self._guard.yardstick or before) - self._baseline.forget.loss
        suffering = retain_loss > before + RETAIN_DRIFT * way or not self._guard.unharmed
        repaired = bool(self.rows) and self.rows[-1]["kind"] == "repair"
        return "repair" if suffering and not repaired else "forget"

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
            # A gain below the rounding cannot be seen: by chance its step would be taken back, and the rate shrink.
            seen = rounding(self._losses)
            group["lr"] = REGION.limit(group["lr"], promised_gain=promised, remaining_gain=left, least_gain=seen)

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

    def _try(self, assessment: Assessment, batch: list[Batch], objective: ForgetObjective, retries: int) -> Trial:
        step = self._optimizer.apply(assessment)
        retain_loss, value, losses = self._bench.reached(batch, objective.values)
        before = float(assessment.forget_loss)
        dials = self._optimizer.param_groups[0]
        rate = dials["lr"]
        decision = REGION.judge(
            rate,
            promised_gain=float(step.promised_forget_gain),
            realised_gain=value - before,
            predicted_retain_change=float(step.predicted_retain_change),
            realised_retain_change=retain_loss - float(assessment.retain_loss),
            retries=retries,
            resolution=1e-7 * max(abs(before), float(assessment.retain_loss)),
        )
        kept = decision.accepted and not self._over_ceiling(losses)
        if decision.accepted and not kept:
            decision = replace(decision, learning_rate=REGION.bounded(rate * REGION.shrink))
        return Trial(step, decision, kept, dials["quota_ratio"], losses, retain_loss, value - before)

    def _over_ceiling(self, losses: NDArray[np.float64]) -> bool:
        """Whether a step rose above the ceiling; below where it started it may end up anywhere."""
        goal, mean = self._guard.yardstick, float(losses.mean())
        return goal is not None and mean > _CEILING * goal and mean > float(self._losses.mean())

    def _after(self, kind: Kind, last: Trial) -> StopReason | None:
        self._over_budget += kind == "repair" and not self._guard.within_budget
        self._misses = 0 if last.kept else self._misses + 1
        if self._misses < _MISSES_BEFORE_GIVING_UP:
            return None
        if self._loss_at_target and self._guard.within_budget:
            return "targets_unmet"
        return "collateral_forgetting_unavoidable" if last.decision.cause == "retain_overrun" else "infeasible"
