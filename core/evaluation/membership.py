"""Can the forget set still be told from records the model never saw?

An attack gives each record a score: the higher, the more it looks like a record of the training set (the loss attack's
score is the negative loss). The area under its ROC curve is the probability that a forget record has a higher score
than a holdout record, ties counting half. 1 = the forget set is clearly a member, 0.5 = cannot be told apart, below
0.5 = over-forgotten, which is a trace as well: 0.5 is wanted, from both sides. Other works report 1 minus this number
(MUSE does), so the convention goes with the figure.

Ranks only: any increasing change of the scores leaves it as it is. Source: Yeom et al., arXiv 1709.01604 (the loss
attack). Cost: sorting; the interval some 0.2 s for 10,000 records on each side.
"""

import math

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import evaluate, weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.statistics import area_under_roc


def membership_auc(forget: NDArray[np.floating], holdout: NDArray[np.floating]) -> float:
    """Area under the ROC curve of the attack "a lower loss means a member"; shapes (n,) and (m,).

    nan when either set is empty or a loss is nan.
    """
    return evaluate(area_under_roc, -forget, -holdout)


def attack_auc(forget: NDArray[np.floating], holdout: NDArray[np.floating], *, seed: int) -> Estimate:
    """The area for an attack's scores (higher = more like a member), (n,) and (m,), with its interval."""
    return weighted_bootstrap(area_under_roc, forget, holdout, seed=seed)


def two_sided(auc: float) -> float:
    """How well the sets can be told apart whichever way round: from 0.5 (not at all) to 1."""
    return math.nan if math.isnan(auc) else max(auc, 1 - auc)
