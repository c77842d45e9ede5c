"""How many forget records an attack is sure of: its true positive rate at a small false positive rate.

An average such as the AUC hides a few records that are recognised with near certainty. Here the attacker calls a
record a member only above a threshold that a share ``fpr`` of the holdout exceeds. Wanted: no more than ``fpr``, which
is what guessing gives.

Source: Carlini et al., "Membership inference attacks from first principles", arXiv 2112.03570. Cost: sorting.
"""

import math

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import evaluate, weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.proportions import proportion
from core.evaluation.statistics import true_positive_rate_at


def true_positive_rate(forget: NDArray[np.floating], holdout: NDArray[np.floating], *, fpr: float = 0.01) -> float:
    """Share of the forget scores, (n,), above the threshold; higher scores look more like members.

    Records that score the threshold itself count with the share of them that the false positive rate leaves room for.
    nan when the holdout, (m,), has fewer than 1 / fpr records: a threshold that no record of so few exceeds belongs to
    an unknown, perhaps far smaller rate, and would flatter the model. nan as well for an empty set or a score of nan.
    """
    if len(holdout) * fpr < 1 - 1e-9:
        return math.nan
    return evaluate(true_positive_rate_at(fpr), forget, holdout)


def attack_tpr(
    forget: NDArray[np.floating], holdout: NDArray[np.floating], *, seed: int, fpr: float = 0.01
) -> Estimate:
    """The same with its interval: the wider of the bootstrap's and that of a share of n records.

    Mostly no forget record lies above the threshold, and then no resample has one either; that none of 20 was found
    still leaves room for one in seven.
    """
    if math.isnan(rate := true_positive_rate(forget, holdout, fpr=fpr)):
        return Estimate.unknown()
    drawn = weighted_bootstrap(true_positive_rate_at(fpr), forget, holdout, seed=seed)
    share = proportion(math.floor(rate * len(forget) + 1e-9), len(forget))
    return Estimate(rate, min(drawn.low, share.low), max(drawn.high, share.high))
