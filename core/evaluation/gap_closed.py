"""How much of what the forget set lacked in surprise it has gained.

Surprise is the log-odds against the right answer in nats (``core.unlearning.objective``), which rises steadily where
the loss of a well-known record hardly moves. The shortfall of a set is the mean by which its surprises, sorted, lie
below the targets, sorted; what lies above its target makes up for nothing. The figure is 1 − shortfall after over
shortfall before. Direction: 1 = nothing is lacking any more, 0 = as before, below 0 = known better than before.

Sorted, since a model that never saw the records has its own order of easy and hard ones. Not the mean surprise: of
sets that differ in their tails alone the means may already be equal, and a ratio to their difference says nothing.
Cost: sorting.
"""

import math

import numpy as np
from numpy.typing import NDArray


def gap_closed(before: NDArray[np.floating], after: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """From the surprise of the forget records before and after and their targets, (n,) each, in any order.

    nan for no records and when nothing was lacking before.
    """
    lacked = shortfall(before, targets)
    return 1 - shortfall(after, targets) / lacked if lacked > 0 else math.nan


def shortfall(surprises: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """Mean nats by which the sorted surprises, (n,), lie below the sorted targets, (n,); nan for no records."""
    if not len(surprises):
        return math.nan
    lacking = np.sort(targets.astype(np.float64)) - np.sort(surprises.astype(np.float64))
    return float(np.maximum(lacking, 0.0).mean())
