"""Tug of war: forgetting, retaining and generalising as a retrained model does, in one number.

The product over forget, retain and test set of 1 − |accuracy − accuracy of the retrained model|. Direction: 1 = as
retrained; any one of the three can pull it down.

Needs a model retrained without the forget set. Source: Zhao et al. (RUM), arXiv 2406.01257. Cost: none beside it.
"""

import math
from collections.abc import Mapping


def tug_of_war(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """From accuracies (shares of 1) by name of the set, for the same sets (else ``ValueError``); nan if one is nan."""
    if unlearned.keys() != retrained.keys():
        raise ValueError(f"Both models need the same sets, not {sorted(unlearned)} and {sorted(retrained)}.")
    return math.prod(1 - abs(unlearned[name] - retrained[name]) for name in unlearned)
