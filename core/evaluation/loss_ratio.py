"""How the forget set's loss compares with that of records the model never saw.

Two figures, both on the matched holdout. To the mean: 1 is wanted, below is not forgotten, above is over-forgotten; the
mean is the yardstick's, the geometric mean of the holdout's loss before and now (``core.evaluation.yardstick``). To the
95th percentile: above 1 even a surprising stranger is known better than the forget set. Cost: some 0.2 s for 10,000
records on each side.
"""

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import Counts, Samples, weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.statistics import Drawn, means, quantile


def forget_loss_ratio(
    forget: NDArray[np.floating], before: NDArray[np.floating], now: NDArray[np.floating], *, seed: int
) -> Estimate:
    """Mean forget loss, (n,), over the yardstick of the same holdout records before and now, (m,) each, all in nats.

    Unknown when a set is empty or both numbers are 0.
    """
    return weighted_bootstrap(_to_yardstick, forget, np.stack([before, now], axis=1), seed=seed)


def forget_loss_p95_ratio(forget: NDArray[np.floating], holdout: NDArray[np.floating], *, seed: int) -> Estimate:
    """Mean forget loss, (n,), over the 95th percentile of the holdout's losses, (m,); unknown when a set is empty."""
    return weighted_bootstrap(_to_percentile, forget, holdout, seed=seed)


def _to_yardstick(samples: Samples, counts: Counts) -> Drawn:
    holdout = means(samples[1], counts[1])
    return means(samples[0], counts[0]) / np.sqrt(holdout[:, 0] * holdout[:, 1])


def _to_percentile(samples: Samples, counts: Counts) -> Drawn:
    return means(samples[0], counts[0]) / quantile(0.95)(samples[1:], counts[1:])
