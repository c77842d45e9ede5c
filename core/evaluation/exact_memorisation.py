"""Exact memorisation: the share of a record's tokens that the model would say itself, given those before.

Direction: as on the matched holdout; clearly above it the text is still known, 1 is known by heart.
Source: Tirumala et al., arXiv 2205.10770. Cost: the argmax of a forward pass.
"""

import math

import numpy as np
from numpy.typing import NDArray


def exact_memorisation(matches: NDArray[np.bool_]) -> float:
    """Of one record's scored tokens, (tokens,), whether the likeliest token is the right one: the share that is.

    All scored tokens count, the last one too. nan for a record without tokens.
    """
    return float(matches.mean()) if len(matches) else math.nan
