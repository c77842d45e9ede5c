"""How much accuracy the class that lost most has lost.

The maximum over classes of accuracy before minus accuracy after, on the same records. Direction: small; overall
accuracy hides a class that was given up. Classes with few records are judged together as one, since one answer of five
is a drop of 20 points. A maximum of noisy numbers lies above the truth, and so does a resampled one: two of four models
that were merely trained anew would have failed by its lower end. So the interval ends above where the resampled
maximum does, and begins where the class whose drop is the surest begins, each at its share of the 2.5 % (Bonferroni).

Source: worst-group accuracy (Sagawa et al., arXiv 1911.08731), as a difference. Cost: counting, once a class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import Counts, Samples, weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.statistics import Drawn, mean

LEAST_RECORDS = 20

_SMALL = -1
"""The group of all classes with fewer records."""


@dataclass(frozen=True, slots=True)
class WorstClass:
    """The class that lost most. ``label`` is None for the small classes together, and without any records."""

    label: int | None
    drop: Estimate


def worst_class_drop(
    before: NDArray[np.generic],
    after: NDArray[np.generic],
    classes: NDArray[np.integer],
    *,
    seed: int,
    least_records: int = LEAST_RECORDS,
) -> WorstClass:
    """From right (1) or wrong (0) answers before and after and the classes (0, 1, …), (n,) each; drops in shares of 1.

    Classes below ``least_records`` form one group, however small that is. Unknown for no records.
    """
    if not len(classes):
        return WorstClass(None, Estimate.unknown())
    kinds, places, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    groups = np.where(sizes < least_records, _SMALL, kinds)[places]
    order = np.argsort(groups, kind="stable")
    labels, starts = np.unique(groups[order], return_index=True)
    lost = (np.asarray(before, np.float64) - np.asarray(after, np.float64))[order]

    def greatest(samples: Samples, counts: Counts) -> Drawn:
        return _drops(np.asarray(samples[0], np.float64), counts[0], starts).max(axis=1)

    worst = int(labels[_drops(lost, np.ones((1, len(lost)), np.uint8), starts)[0].argmax()])
    resampled = weighted_bootstrap(greatest, lost, seed=seed)
    surest = max(
        weighted_bootstrap(mean, some, seed=seed, tail=0.025 / len(starts)).low for some in np.split(lost, starts[1:])
    )
    drop = Estimate(resampled.value, min(resampled.value, surest), resampled.high)
    return WorstClass(None if worst == _SMALL else worst, drop)


def _drops(lost: NDArray[np.floating], counts: NDArray[np.uint8], starts: NDArray[np.integer]) -> NDArray[np.floating]:
    """Mean loss of each group in each draw, (draws, groups), groups beginning at ``starts``; -inf for one not drawn."""
    drawn = counts.astype(np.float64)
    sizes = np.add.reduceat(drawn, starts, axis=1)
    totals = np.add.reduceat(drawn * lost, starts, axis=1)
    return np.where(sizes > 0, totals / np.maximum(sizes, 1), -np.inf)
