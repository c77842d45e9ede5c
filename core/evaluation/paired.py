"""What the same records lost between two models.

Answers of two models to the same records rise and fall together, so differences are taken record by record and records
are resampled in pairs: that interval is far narrower than one from two separate ones. Direction: small drops, a
perplexity ratio near 1. Cost: some 0.1 s for 10,000 records.
"""

import math

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.scores import SetScores
from core.evaluation.statistics import mean, ratio_of_means


def mean_change(before: NDArray[np.floating], after: NDArray[np.floating], *, seed: int) -> Estimate:
    """Mean of after minus before of the same records, (n,) each; unknown for no records."""
    return weighted_bootstrap(mean, after - before, seed=seed)


def accuracy_drop(before: SetScores, after: SetScores, *, seed: int) -> Estimate:
    """Accuracy before minus accuracy after, as a share of 1; all answers weigh the same, so long records weigh more.

    Unknown for no records. Without a single changed answer the interval has no width.
    """
    return weighted_bootstrap(ratio_of_means, before.correct - after.correct, before.counted, seed=seed, paired=True)


def perplexity_ratio(before: SetScores, after: SetScores, *, seed: int) -> Estimate:
    """Perplexity after over perplexity before (1 = unchanged, above = worse); unknown for no records."""
    change = (after.losses.astype(np.float64) - before.losses) * before.counted
    return weighted_bootstrap(ratio_of_means, change, before.counted, seed=seed, paired=True).through(_exp)


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
