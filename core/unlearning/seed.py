"""The one place where randomness is fixed."""

import random
from typing import Final

import numpy as np
import torch

_STREAMS: Final = {"retain": 1, "evaluation": 2, "placebo": 3, "relearning": 4, "probe": 5, "divergence": 6}
"""Independent streams drawn from one seed, so that evaluating never shifts which batches are trained on."""


def make_deterministic(seed: int) -> None:
    """Seed every generator and ask for deterministic kernels; two CPU runs are then bitwise equal.

    A GPU kernel without a deterministic form still runs, and torch warns about it.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def generator(seed: int, stream: str, *more: int) -> np.random.Generator:
    """A generator of its own for ``stream`` (and, say, an epoch), the same for the same arguments.

    Raises ``KeyError`` for a stream that is not declared here.
    """
    return np.random.default_rng([seed, _STREAMS[stream], *more])
