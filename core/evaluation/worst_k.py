"""The records that still look most like members: an average hides them.

Direction: a forget record should lie anywhere among the holdout's scores; one beyond nearly all of them is not
forgotten. Some record is always the worst, so read it beside its percentile and the size of the set: the best-known of
n strangers lies at about the percentile n / (n + 1).

Source: Hayes et al., arXiv 2403.01218 (average attacks give a false sense of privacy). Cost: sorting.
"""

import numpy as np
from numpy.typing import NDArray


def most_like_members(scores: NDArray[np.floating], k: int = 10) -> NDArray[np.intp]:
    """Indices of the k highest scores (higher = more like a member), highest first; equal ones in their order.

    Scores of nan come last.
    """
    return np.argsort(-scores, kind="stable")[:k]


def percentiles(scores: NDArray[np.floating], holdout: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where each score, (n,), lies in the holdout's, (m,): the share of lower ones plus half of the equal ones.

    From 0 (like no member) to 1; nan for a score of nan and without a holdout.
    """
    if not len(holdout):
        return np.full(len(scores), np.nan)
    ordered = np.sort(holdout)
    lower = np.searchsorted(ordered, scores, side="left")
    not_higher = np.searchsorted(ordered, scores, side="right")
    return np.where(np.isnan(scores), np.nan, (lower + not_higher) / (2 * len(ordered)))
