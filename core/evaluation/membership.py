"""Can the forget set still be told from records the model never saw, by their loss?"""

import math

import numpy as np
from numpy.typing import NDArray


def membership_auc(forget: NDArray[np.floating], holdout: NDArray[np.floating]) -> float:
    """Area under the ROC curve of the attack "a lower loss means a member"; shapes (n,) and (m,).

    The probability that a forget record has a lower loss than a holdout record, ties counting half. 1 = the forget
    set is clearly a member, 0.5 = cannot be told apart, below 0.5 = over-forgotten, which is a trace as well.
    nan when either set is empty. Ranks only, so any increasing change of the losses leaves it as it is.
    """
    if not len(forget) or not len(holdout):
        return math.nan
    ordered = np.sort(holdout)
    below = np.searchsorted(ordered, forget, side="left")
    not_above = np.searchsorted(ordered, forget, side="right")
    higher = len(ordered) - (below + not_above) / 2
    return float(higher.mean() / len(ordered))
