"""How the forget set's loss compares with that of records the model never saw.

Two figures, both on the matched holdout. To the mean: 1 is wanted, below is not forgotten, above is over-forgotten; the
mean is the yardstick's, the geometric mean of the holdout's loss before and now (``core.evaluation.yardstick``). To the
95th percentile: above 1 even a surprising stranger is known better than the forget set. Cost: some 0.5 s for 10,000
records on each side.

Most of a mean loss lies in a few records, and a small set often has none of these; resampling it cannot know what it
lacks. Of sets that a model had truly never met, 16 % had a bootstrap interval wholly below 0.8 (docs/evidence.md). So
the interval of the first figure also allows for what chance makes of as many strangers.
"""

import math

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import DRAWS, Counts, Samples, weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.statistics import Drawn, means, quantile


def forget_loss_ratio(
    forget: NDArray[np.floating], before: NDArray[np.floating], now: NDArray[np.floating], *, seed: int
) -> Estimate:
    """Mean forget loss, (n,), over the yardstick of the same holdout records before and now, (m,) each, all in nats.

    The interval holds the bootstrap's, and every ratio of which the value could be a chance result for as many
    strangers. Unknown when a set is empty or both numbers are 0.
    """
    holdout = np.stack([before, now], axis=1)
    found = weighted_bootstrap(_to_yardstick, forget, holdout, seed=seed)
    if not found.value > 0 or len(holdout) == 1:
        return found
    least, most = _ratios_of_strangers(len(forget), holdout, seed=seed)
    low, high = found.value / most, found.value / least if least > 0 else math.inf
    return Estimate(found.value, min(found.low, low), max(found.high, high))


def _ratios_of_strangers(count: int, holdout: NDArray[np.floating], *, seed: int) -> tuple[float, float]:
    """Where 95 % of the ratios of ``count`` strangers lie, who are drawn from ``holdout``, (m, 2), before and now.

    The yardstick is that of another draw, of m of them: both sets are samples.
    """
    random, goal, many = np.random.default_rng([seed, count]), _yardstick(holdout), len(holdout)
    strangers = holdout[:, 1] * (goal / holdout[:, 1].mean())
    ratios = [
        strangers[random.integers(many, size=count)].mean() / _yardstick(holdout[random.integers(many, size=many)])
        for _ in range(DRAWS)
    ]
    least, most = np.quantile(ratios, (0.025, 0.975))
    return float(least), float(most)


def _yardstick(holdout: NDArray[np.floating]) -> float:
    were, are = holdout.mean(axis=0)
    return math.sqrt(were * are)


def forget_loss_p95_ratio(forget: NDArray[np.floating], holdout: NDArray[np.floating], *, seed: int) -> Estimate:
    """Mean forget loss, (n,), over the 95th percentile of the holdout's losses, (m,); unknown when a set is empty."""
    return weighted_bootstrap(_to_percentile, forget, holdout, seed=seed)


def _to_yardstick(samples: Samples, counts: Counts) -> Drawn:
    holdout = means(samples[1], counts[1])
    return means(samples[0], counts[0]) / np.sqrt(holdout[:, 0] * holdout[:, 1])


def _to_percentile(samples: Samples, counts: Counts) -> Drawn:
    return means(samples[0], counts[0]) / quantile(0.95)(samples[1:], counts[1:])
