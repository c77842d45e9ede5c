"""The retain budget and the moving target, looked at every few steps on whole sets."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from core.evaluation.scores import SetScores
from core.evaluation.yardstick import yardstick
from core.unlearning.bench import Bench, Weights
from core.unlearning.checkpoint import State
from core.unlearning.job import Parameters
from core.unlearning.targets import Baseline, holdout_drop, retain_drop

_LEAST_INTERVAL = 10
_REPAIR_INTERVAL = 5
_SCORES = ("losses", "correct", "counted")


def steps_between_looks(bench: Bench) -> int:
    """A look costs a forward pass over both samples: far enough apart to take about a third of a run."""
    return max(_LEAST_INTERVAL, math.ceil(len(bench.retain) / (2 * bench.retain_batches.batch_size)))


class Guard:
    """Measures retain accuracy and holdout losses, and keeps a copy of the last weights within the budget."""

    def __init__(self, bench: Bench, baseline: Baseline, parameters: Parameters) -> None:
        self._bench = bench
        self._baseline = baseline
        self._parameters = parameters
        self._interval = steps_between_looks(bench)
        self._safe: Weights = bench.copy_weights()
        self._looked_at = 0
        self._everyone = baseline.everyone
        self.within_budget = True

    @property
    def holdout(self) -> SetScores:
        """Scores at the last look of those whom the forget set is compared with."""
        matched = self._baseline.matched
        return self._everyone if matched is None else self._everyone.take(matched)

    @property
    def unharmed(self) -> bool:
        """Whether retain and holdout accuracy were both within their budgets at the last look."""
        harm = holdout_drop(self._baseline.everyone, self._everyone, self._parameters)
        return self.within_budget and (harm.met or not len(self._everyone))

    @property
    def yardstick(self) -> float | None:
        """The mean loss in nats that forgotten records should have; None without a holdout."""
        return yardstick(self._baseline.holdout, self.holdout)

    @property
    def stranger_losses(self) -> NDArray[np.floating]:
        """Holdout losses at the last look, scaled to have the yardstick as their mean; shape (m,)."""
        goal, now = self.yardstick, self.holdout
        return now.losses * (goal / now.loss) if goal else np.empty(0)

    def due(self, step: int) -> bool:
        """Whether a look is due after ``step`` steps; sooner while the budget is exceeded."""
        return step - self._looked_at >= (self._interval if self.unharmed else _REPAIR_INTERVAL)

    def look(self, step: int) -> None:
        """Measure; weights within the budget become the ones to go back to. Raises ``Cancelled``."""
        harm = retain_drop(self._baseline.retain, self._bench.score(self._bench.retain), self._parameters)
        self._everyone = self._bench.score(self._bench.everyone)
        self.within_budget = harm.met
        self._looked_at = step
        if self.within_budget:
            self._safe = self._bench.copy_weights()

    def state(self) -> State:
        """What was last measured, and the weights to go back to."""
        measured = (self._everyone.losses, self._everyone.correct, self._everyone.counted)
        scores = {name: torch.from_numpy(values) for name, values in zip(_SCORES, measured, strict=True)}
        state = State(scores, {"looked_at": self._looked_at, "within_budget": self.within_budget})
        state.put("safe", State(self._safe))
        return state

    def restore(self, state: State) -> None:
        """Back to what ``state`` said."""
        self._everyone = SetScores(*(state.tensors[name].numpy() for name in _SCORES))
        self._looked_at = int(state.facts["looked_at"])
        self.within_budget = bool(state.facts["within_budget"])
        self._safe = state.part("safe").tensors

    def roll_back(self) -> None:
        """Give the model the last weights that were measured to be within the budget."""
        self._bench.restore_weights(self._safe)
