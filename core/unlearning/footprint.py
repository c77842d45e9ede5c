"""What a model needs at the very least, known from its files' headers before anything is loaded.

A weight is computed with in float32, and one that is trained has two gradients and a copy to go back to beside it.
Activations, a peer method's optimiser and attacks come on top, so a model that this turns
down could never have run; one that it lets through may still run out (``memory``).
"""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from core.unlearning.failures import UnlearningError

_NUMBER: Final = 4
"""Bytes of a float32."""

_COPIES: Final = 4
"""A trained weight, its retain and forget gradients, and what it was at the last look."""

_CGROUP: Final = Path("/sys/fs/cgroup/memory.max")


class ModelTooLarge(UnlearningError):
    """The model cannot fit into the device's memory, whatever is done."""

    def __init__(self, needed: int, there: int, device: torch.device) -> None:
        super().__init__(
            "model_too_large",
            f"The model needs at least {_gib(needed)} of memory for its weights and their gradients, and the worker's "
            f"device ({device.type}) has {_gib(there)}: use a larger device, or train an adapter instead.",
        )


@dataclass(frozen=True, slots=True)
class Footprint:
    """Numbers of weights by whether they are trained."""

    trained: int
    frozen: int

    @property
    def least_bytes(self) -> int:
        """What training takes before the first record is looked at."""
        return _NUMBER * (_COPIES * self.trained + self.frozen)


def footprint(folder: Path) -> Footprint:
    """Of a model folder, whose weights are all counted as trained, or of an adapter's, whose base is frozen.

    A damaged file counts nothing: loading it says what is wrong.
    """
    own = sum(map(_numbers, folder.glob("*.safetensors")))
    return Footprint(own, sum(map(_numbers, folder.glob("*/*.safetensors"))))


def memory_of(device: torch.device) -> int:
    """Bytes that the device has in all; of the host, what this process may use of it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(host, _allowed(host))


def check_footprint(folder: Path, device: torch.device, memory_bytes: int | None = None) -> None:
    """Raises ``ModelTooLarge``. memory_bytes: what the run may use; None: all that the device has."""
    there = memory_bytes if memory_bytes is not None else memory_of(device)
    needed = footprint(folder).least_bytes
    if needed > there:
        raise ModelTooLarge(needed, there, device)


def _numbers(file: Path) -> int:
    try:
        with safe_open(file, framework="pt") as tensors:
            return sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError):
        return 0


def _allowed(host: int) -> int:
    try:
        words = _CGROUP.read_text().strip()
    except OSError:
        return host
    return int(words) if words.isdigit() else host


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"
