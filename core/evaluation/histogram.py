"""Distributions of scores that can be drawn over one another."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Histogram = dict[str, list[float] | list[int] | int]


def histograms(samples: Mapping[str, NDArray[np.floating]], *, bins: int = 40) -> dict[str, Histogram]:
    """A histogram of each sample, all over the same ``bins`` equal intervals from the least to the greatest number.

    ``edges`` (bins + 1), ``counts`` (bins; the last interval holds its upper edge), and ``not_finite``: how many
    numbers were left out. Plain data for JSON. Without any finite number the edges run from 0 to 1.
    """
    numbers = {name: np.asarray(sample, np.float64) for name, sample in samples.items()}
    finite = {name: sample[np.isfinite(sample)] for name, sample in numbers.items()}
    edges = np.histogram_bin_edges(np.concatenate([np.empty(0), *finite.values()]), bins=bins)
    return {
        name: {
            "edges": edges.tolist(),
            "counts": np.histogram(sample, bins=edges)[0].tolist(),
            "not_finite": len(numbers[name]) - len(sample),
        }
        for name, sample in finite.items()
    }
