"""How much of what was forgotten an attack brings back, such as rounding the weights to 8 or 4 bits.

(attacked − unlearned) / (original − unlearned), where each is the forget set's mean accuracy or loss under the original
weights, the published ones and the published ones after the attack. Direction: 0 or below; 1 = all is back. Either
figure has the same sign, since both differences turn.

Source: Zhang et al., arXiv 2410.16454 (rounding undoes unlearning). Cost: a forward pass over the forget set an attack.
"""

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.statistics import ratio_of_means


def recovery(
    original: NDArray[np.floating], unlearned: NDArray[np.floating], attacked: NDArray[np.floating], *, seed: int
) -> Estimate:
    """The share brought back, from one number a record, (n,) each, losses or right answers.

    Unknown when nothing was forgotten (the means of original and unlearned are equal) or there are no records: then
    nothing can come back.
    """
    if len(original) and float(np.mean(original, dtype=np.float64)) == float(np.mean(unlearned, dtype=np.float64)):
        return Estimate.unknown()
    returned = attacked.astype(np.float64) - unlearned
    forgotten = original.astype(np.float64) - unlearned
    return weighted_bootstrap(ratio_of_means, returned, forgotten, seed=seed, paired=True)
