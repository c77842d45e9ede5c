"""Did the forget set's loss rise because it was targeted, or because everything's did?

Sets as large as the forget set are drawn from records that were never targeted (the placebo), and the figure is the
share of them whose mean loss rose at least as much. Direction: near 0; a run that merely damaged the model has a forget
set like any other.

Sets are drawn with replacement, since the placebo may be no larger than the forget set. Source: a resampling test
against a placebo group. Cost: a mean of n numbers a draw; beyond 2,000 records the means of draws are as good as
normal, and the normal distribution's tail is taken instead.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from core.evaluation.estimates import Estimate
from core.evaluation.proportions import proportion

DRAWS = 10_000

_LARGE = 2000
_AT_ONCE = 1 << 20


def specificity(
    forget: NDArray[np.floating], placebo: NDArray[np.floating], *, seed: int, draws: int = DRAWS
) -> Estimate:
    """The share, with the interval that the number of draws leaves; from rises of loss in nats, (n,) and (p,).

    A rise may be infinite. Unknown when a set is empty or holds nan.
    """
    if not len(forget) or not len(placebo) or np.isnan(forget).any() or np.isnan(placebo).any():
        return Estimate.unknown()
    rise = float(forget.mean(dtype=np.float64))
    if len(forget) > _LARGE and np.isfinite(placebo).all():
        return Estimate.exact(_normal_tail(rise, placebo.astype(np.float64), len(forget)))
    return proportion(_drawn_as_high(rise, placebo.astype(np.float64), len(forget), seed, draws), draws)


def _drawn_as_high(rise: float, placebo: NDArray[np.float64], size: int, seed: int, draws: int) -> int:
    """How many of the draws have a mean of at least ``rise``; equal means may differ by rounding, and count."""
    rng = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // size)
    least = rise - 1e-12 * abs(rise) if math.isfinite(rise) else rise
    found = 0
    for start in range(0, draws, rows):
        indices = rng.integers(len(placebo), size=(min(rows, draws - start), size))
        found += int((placebo[indices].mean(axis=1) >= least).sum())
    return found


def _normal_tail(rise: float, placebo: NDArray[np.float64], size: int) -> float:
    spread = float(placebo.std()) / math.sqrt(size)
    distance = float(placebo.mean()) - rise
    return float(ndtr(distance / spread)) if spread else float(distance >= 0)
