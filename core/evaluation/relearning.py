"""Does the forget set come back faster than strangers are learned?

The published model is trained for a few steps on a part of the forget set and, afresh, on as large a part of the
matched holdout; after each step the loss of the rest of that set is taken. Speed = mean over the steps of the share by
which the loss has fallen, 1 − L_t / L_0: the area under the curve of progress. The figure is the forget set's speed
over the control's. Direction: 1 = a stranger; above, what was forgotten lies just below the surface.

Why the area and not the last step: what is still known shows in the first steps, while after many both curves end at
the same place; and a mean over steps is less noisy than one. Why shares of L_0: the sets need not start at the same
loss.

Source: the relearn time of unlearning studies; Hu et al., arXiv 2406.13356. Cost: the training steps, and a forward
pass over both sets for each.
"""

import math

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import Counts, Samples, weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.statistics import Drawn, means

LEAST_PROGRESS = 0.05


def relearn_speed(forget: NDArray[np.floating], control: NDArray[np.floating], *, seed: int) -> Estimate:
    """Speed ratio from the losses of each record before the first step and after each, (records, steps + 1).

    Both with the same number of steps, at least one (else ``ValueError``). Unknown when a set is empty. A control that
    made less progress than ``LEAST_PROGRESS`` counts as that much: strangers that teach nothing about each other are
    the rule, and a forget set that comes back beside them must not go unmeasured.
    """
    if forget.shape[1] != control.shape[1] or forget.shape[1] < 2:
        raise ValueError(f"Both curves need as many steps, not {forget.shape[1] - 1} and {control.shape[1] - 1}.")
    return weighted_bootstrap(_speed_ratio, forget, control, seed=seed)


def progress(losses: NDArray[np.floating]) -> float:
    """Mean over the steps of the share by which the mean loss has fallen; nan for no records."""
    return float(_progress(losses.mean(axis=0, dtype=np.float64)[None])[0]) if len(losses) else math.nan


def _speed_ratio(samples: Samples, counts: Counts) -> Drawn:
    forget, control = (_progress(means(sample, count)) for sample, count in zip(samples, counts, strict=True))
    return forget / np.maximum(control, LEAST_PROGRESS)


def _progress(curves: NDArray[np.floating]) -> Drawn:
    """Of mean curves (draws, steps + 1)."""
    return 1 - (curves[:, 1:] / curves[:, :1]).mean(axis=1)
