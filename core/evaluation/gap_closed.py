"""How much of the way to its target the forget set went.

(mean surprise after − before) / (mean target surprise − before), surprise being the log-odds against the right answer
in nats (``core.unlearning.objective``), which rises steadily where the loss of a well-known record hardly moves.
Direction: 1 = arrived, 0 = stayed, above 1 = went too far. Cost: none beside the scores.
"""

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.statistics import ratio_of_means


def gap_closed(
    before: NDArray[np.floating], after: NDArray[np.floating], target: NDArray[np.floating], *, seed: int
) -> Estimate:
    """From the surprise of each forget record and its target, (n,) each.

    Unknown for no records, and when the mean target is not above the mean before: then there is no way to go.
    """
    start = before.astype(np.float64)
    if not (target - start).sum() > 0:
        return Estimate.unknown()
    return weighted_bootstrap(ratio_of_means, after - start, target - start, seed=seed, paired=True)
