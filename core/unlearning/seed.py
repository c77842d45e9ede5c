"""The one place where randomness is fixed."""

import random
from typing import Any, Final

import numpy as np
import torch

from core.unlearning.checkpoint import State

_STREAMS: Final = {
    "retain": 1,
    "evaluation": 2,
    "rounding": 3,
    "placebo": 4,
    "relearning": 5,
    "probe": 6,
    "divergence": 7,
    "earlier": 8,
}
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


def random_state(device: torch.device) -> State:
    """Where every generator that ``make_deterministic`` seeds stands."""
    version, words, gauss = random.getstate()
    numpy: dict[str, Any] = dict(np.random.get_state(legacy=False))
    tensors = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words),
        "numpy": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
    }
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    rest = {"pos": int(numpy["state"]["pos"]), "has_gauss": int(numpy["has_gauss"]), "gauss": float(numpy["gauss"])}
    return State(tensors, {"python": [version, gauss], "numpy": rest})


def restore_random_state(state: State, device: torch.device) -> None:
    """Put the generators back where they were; a device of another kind than then keeps its own."""
    version, gauss = state.facts["python"]
    random.setstate((version, tuple(state.tensors["python"].tolist()), gauss))
    rest = state.facts["numpy"]
    keys = state.tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, rest["pos"], rest["has_gauss"], rest["gauss"]))
    torch.set_rng_state(state.tensors["torch"])
    if device.type == "cuda" and "cuda" in state.tensors:
        torch.cuda.set_rng_state(state.tensors["cuda"], device)


def generator(seed: int, stream: str, *more: int) -> np.random.Generator:
    """A generator of its own for ``stream`` (and, say, an epoch), the same for the same arguments.

    Raises ``KeyError`` for a stream that is not declared here.
    """
    return np.random.default_rng([seed, _STREAMS[stream], *more])


def draw(seed: int, stream: str) -> int:
    """A seed for a torch generator of its own, the same for the same arguments. Raises as ``generator`` does."""
    return int(generator(seed, stream).integers(2**63))
