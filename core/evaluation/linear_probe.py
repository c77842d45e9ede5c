"""Is what was forgotten still to be read from the inner features, though the last layer no longer says it?

A linear probe is fitted on features of retained records (what enters the last layer, or the mean last hidden state) and
asked about the forget set and the matched holdout. Direction: as often right on the forget set as on the holdout; a
gap above 0 means that the features still carry the records, and a new last layer would have them back.

The probe is ridge regression to one column per class (1 for the right one, else 0), in closed form: the same features
give the same probe. Source: linear probes, Alain and Bengio, arXiv 1610.01644. Cost: n·d² multiplications and one
d × d system for n records of d features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.evaluation.bootstrap import weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.statistics import difference_of_means

RIDGE = 1e-3
"""Weight of the penalty beside features of variance 1."""


@dataclass(frozen=True, slots=True)
class Probe:
    """score of class c = Σ_j weights[j, c] · (feature_j − centre_j) / scale_j + bias[c]"""

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def fit(cls, features: NDArray[np.floating], labels: NDArray[np.integer], *, classes: int) -> "Probe":
        """Features (n, d) and labels 0 … classes - 1, (n,), n ≥ 1 (else ``ValueError``).

        A feature that never varies is left out of account. d may exceed n.
        """
        if not len(features):
            raise ValueError("A probe needs at least one record to be fitted on.")
        wide = features.astype(np.float64)
        centre, spread = wide.mean(axis=0), wide.std(axis=0)
        scale = np.where(spread > 1e-12, spread, np.inf)
        inputs = (wide - centre) / scale
        targets = np.eye(classes)[labels]
        bias = targets.mean(axis=0)
        gram = inputs.T @ inputs / len(wide) + RIDGE * np.eye(wide.shape[1])
        return cls(centre, scale, np.linalg.solve(gram, inputs.T @ (targets - bias) / len(wide)), bias)

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, d) features → (n, classes); about 1 for the class found, 0 for others."""
        return (features - self.centre) / self.scale @ self.weights + self.bias

    def correct(self, features: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether the highest score is the label's, (n,)."""
        return self.scores(features).argmax(axis=1) == labels


def probe_gap(forget: NDArray[np.bool_], holdout: NDArray[np.bool_], *, seed: int) -> Estimate:
    """Probe accuracy on the forget set minus on the matched holdout, from right answers (n,) and (m,)."""
    return weighted_bootstrap(difference_of_means, forget, holdout, seed=seed)
