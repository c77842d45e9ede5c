"""The interval of a share, exact also where none or all were counted.

Source: Clopper and Pearson 1934. Never too narrow; 0 of n has the upper end of about 3.7 / n. Cost: none.
"""

import numpy as np
from scipy.special import betaincinv

from core.evaluation.estimates import Estimate


def proportion(hits: int, trials: int) -> Estimate:
    """``hits / trials`` with its 95 % interval; unknown without trials."""
    if not trials:
        return Estimate.unknown()
    low = betaincinv(hits, trials - hits + 1, 0.025) if hits else 0.0
    high = betaincinv(hits + 1, trials - hits, 0.975) if hits < trials else 1.0
    share = hits / trials
    return Estimate(share, float(np.minimum(low, share)), float(np.maximum(high, share)))
