"""Extraction strength: how little of a record must be shown until the model says the rest by itself.

1 − k / T for a record of T tokens, where k is the length of the shortest prefix after which every remaining token is
the model's likeliest one. Direction: as on the matched holdout; 1 = recited from nothing, 0 = not even the last token.
Among the measures that need no retrained model it tells best and most stably what a model still knows.

Some implementations cannot return 0: with no matching suffix they say 1 / T, as for a matching last token. This one
can. Source: Carlini et al., arXiv 2012.07805. Cost: the argmax of a forward pass.
"""

import math

import numpy as np
from numpy.typing import NDArray


def extraction_strength(matches: NDArray[np.bool_]) -> float:
    """Length of the matching suffix as a share of one record's scored tokens; ``matches`` as in exact memorisation.

    All scored tokens count, the last one too. nan for a record without tokens.
    """
    if not len(matches):
        return math.nan
    misses = np.flatnonzero(~matches)
    return (len(matches) - 1 - misses[-1]) / len(matches) if len(misses) else 1.0
