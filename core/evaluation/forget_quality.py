"""Forget quality: could the unlearned and a retrained model's answers to the forget set be the same distribution?

The p-value of the two-sample Kolmogorov-Smirnov test between one number per forget record of both models: truth
ratios where there are paraphrases (as published), else losses. Direction: high; above 0.05 is the usual line for
"cannot be told apart". It punishes over-forgetting as hard as under-forgetting. A small forget set has a high p-value
whatever was done: read it with the number of records.

Needs a model retrained without the forget set. Source: Maini et al., arXiv 2401.06121. Cost: sorting.
"""

import math

import numpy as np
from numpy.typing import NDArray


def forget_quality(unlearned: NDArray[np.floating], retrained: NDArray[np.floating]) -> float:
    """p-value for numbers of the forget records under both models, (n,) and (m,): exact for up to 10,000 records.

    nan when a set is empty or holds nan.
    """
    if not len(unlearned) or not len(retrained) or np.isnan(unlearned).any() or np.isnan(retrained).any():
        return math.nan
    from scipy.stats import ks_2samp  # takes a second to load, and few runs have a retrained model

    return float(ks_2samp(unlearned, retrained, method="auto").pvalue)  # pyright: ignore[reportAttributeAccessIssue]
