"""A record as a model takes it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded record. Images: ``values`` float32 (channels, height, width) and ``labels`` int64 (1,).
    Text: ``values`` int64 token ids (tokens,) and ``labels`` int64 (tokens,), -100 where nothing is scored."""

    values: NDArray[np.generic]
    labels: NDArray[np.int64]
