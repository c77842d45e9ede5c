"""Statistics of samples in which each record may count several times: the fast path of the bootstrap.

Each takes samples of n numbers and counts (draws, n) and returns one number a draw; see ``core.evaluation.bootstrap``.
Of a sample itself, the value is ``evaluate(statistic, *samples)``.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import Counts, Samples, WeightedStatistic

Drawn = NDArray[np.floating]
"""(draws,)"""

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def mean(samples: Samples, counts: Counts) -> Drawn:
    """The mean of one sample."""
    return means(samples[0], counts[0])


def difference_of_means(samples: Samples, counts: Counts) -> Drawn:
    """Mean of the first sample minus mean of the second."""
    return means(samples[0], counts[0]) - means(samples[1], counts[1])


def ratio_of_means(samples: Samples, counts: Counts) -> Drawn:
    """Mean of the first sample over mean of the second; nan for 0 / 0."""
    return means(samples[0], counts[0]) / means(samples[1], counts[1])


def quantile(level: float) -> WeightedStatistic:
    """The smallest value of one sample that a share of at least ``level`` of its records does not exceed."""

    def of(samples: Samples, counts: Counts) -> Drawn:
        values, before = _sorted(samples[0], counts[0])
        return values[(before[:, 1:] >= level * len(values) - 1e-9).argmax(axis=1)]

    return of


def area_under_roc(samples: Samples, counts: Counts) -> Drawn:
    """The chance that a record of the first sample scores higher than one of the second; ties count half.

    nan when a score is nan.
    """
    scores, other = np.asarray(samples[0]), np.asarray(samples[1])
    if np.isnan(scores).any() or np.isnan(other).any():
        return np.full(len(counts[0]), np.nan)
    order = np.argsort(scores)
    values, before = _sorted(other, counts[1])
    lower, not_higher = (np.take(before, np.searchsorted(values, scores[order], side), axis=1) for side in _SIDES)
    pairs = len(scores) * len(other)
    return np.einsum("ij,ij->i", np.take(counts[0], order, axis=1), lower + not_higher, dtype=np.float64) / (2 * pairs)


def true_positive_rate_at(fpr: float) -> WeightedStatistic:
    """Share of the first sample above the threshold that a share ``fpr`` of the second exceeds.

    Of the records that score the threshold itself an equal share of both samples is taken, so that a score which says
    nothing has a rate of ``fpr``. nan when a score is nan.
    """

    def of(samples: Samples, counts: Counts) -> Drawn:
        if any(np.isnan(np.asarray(sample)).any() for sample in samples):
            return np.full(len(counts[0]), np.nan)
        found, alarms = (_sorted(-np.asarray(s, dtype=np.float64), c) for s, c in zip(samples, counts, strict=True))
        allowed = fpr * len(samples[1])
        threshold = alarms[0][(alarms[1][:, 1:] > allowed + 1e-9).argmax(axis=1)]
        above, tied = _around(*alarms, threshold)
        hits, ties = _around(*found, threshold)
        return (hits + ties * np.maximum(allowed - above, 0) / tied) / len(samples[0])

    return of


def means(sample: NDArray[np.generic], counts: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Mean over the records of a sample (n, …), of each draw: (draws, …); infinite if an infinite one is drawn."""
    data, weights = np.asarray(sample, dtype=np.float64), counts.astype(np.float64)
    infinite = np.isinf(data)
    sums = np.tensordot(weights, np.where(infinite, 0.0, data), axes=1)
    if infinite.any():
        for end in (math.inf, -math.inf):
            sums[np.tensordot(weights, data == end, axes=1) > 0] += end
    return sums / len(data)


def _sorted(sample: NDArray[np.generic], counts: NDArray[np.uint8]) -> tuple[NDArray, NDArray[np.int32]]:
    """The values rising, (n,), and how many records of each draw come before each place, (draws, n + 1)."""
    order = np.argsort(sample, kind="stable")
    before = np.zeros((len(counts), len(order) + 1), dtype=np.int32)
    np.cumsum(np.take(counts, order, axis=1), axis=1, dtype=np.int32, out=before[:, 1:])
    return sample[order], before


def _around(
    values: NDArray, before: NDArray[np.int32], threshold: NDArray
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Of each draw, how many records lie below its threshold and how many on it, (draws,) each."""
    draw = np.arange(len(before))
    below = before[draw, np.searchsorted(values, threshold, side="left")]
    return below, before[draw, np.searchsorted(values, threshold, side="right")] - below
