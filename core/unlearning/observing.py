"""One look at a model: every set observed once."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.evaluation.matching import Matching, match_by_class, match_by_length
from core.evaluation.observations import ClassAnswers, Observation, TokenAnswers
from core.unlearning.bench import Bench
from core.unlearning.guard import Baseline


@dataclass(frozen=True, slots=True)
class Look:
    """The sets as one model answered them; ``holdout`` is all that is held out (or its sample), matched or not."""

    forget: Observation
    retain: Observation
    holdout: Observation

    def baseline(self, matched: NDArray[np.integer] | None) -> Baseline:
        """The scores alone, with those at ``matched`` as the ones to compare with; None: all that are held out."""
        return Baseline(self.forget.scores, self.retain.scores, self.holdout.scores, matched)

    def of(self, forget: Observation) -> "Look":
        """The same with another set in the forget set's place."""
        return replace(self, forget=forget)


def look(bench: Bench) -> Look:
    """Observe the bench's forget and retain sets, and everyone who is held out. Raises ``Cancelled``."""
    return Look(bench.observe(bench.forget), bench.observe(bench.retain), bench.observe(bench.everyone))


def match(look: Look, *, seed: int) -> Matching:
    """Which holdout records the forget set is compared with: of the same classes, or of about the same lengths."""
    forget, holdout = look.forget.answers, look.holdout.answers
    none = np.empty(0, dtype=np.int64)
    if isinstance(forget, ClassAnswers):
        return match_by_class(forget.labels, holdout.labels if isinstance(holdout, ClassAnswers) else none, seed=seed)
    lengths = forget.lengths if isinstance(forget, TokenAnswers) else none
    return match_by_length(lengths, holdout.lengths if isinstance(holdout, TokenAnswers) else none, seed=seed)
