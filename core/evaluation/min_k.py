"""Min-K %: the mean log-probability of a record's least likely tokens.

A text that was trained on has few tokens that surprise the model, one that was not usually has some. Direction: higher
looks more like a member; its AUC against the holdout is wanted at 0.5.

Source: Shi et al., arXiv 2310.16789, with the share of 0.4 that unlearning benchmarks use (the paper has 0.2).
Cost: sorting a record's tokens.
"""

import math

import numpy as np
from numpy.typing import NDArray

SHARE = 0.4


def min_k(log_probs: NDArray[np.floating], *, share: float = SHARE) -> float:
    """Mean of the lowest ``share`` of one record's scored tokens, (tokens,), rounded down but at least one, in nats.

    nan for a record without tokens or with a log-probability of nan.
    """
    if not len(log_probs) or np.isnan(log_probs).any():
        return math.nan
    kept = max(1, math.floor(share * len(log_probs) + 1e-9))
    return float(np.partition(log_probs.astype(np.float64), kept - 1)[:kept].mean())
