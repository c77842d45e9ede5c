"""When memory runs out: the same work with half as many records at a time, down to one.

A pass over records is a sum of what its micro-batches give, so smaller ones give the same up to the order of summation.
"""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from core.unlearning.batches import Batch
from core.unlearning.failures import UnlearningError

T = TypeVar("T")
log = logging.getLogger(__name__)

_WORDS = (
    "out of memory",  # CUDA, MPS
    "can't allocate memory",  # torch's allocator for the CPU
    "not enough memory",
    "Cannot allocate memory",  # ENOMEM, from whoever asked the kernel
    "std::bad_alloc",
    "ALLOC_FAILED",  # cuBLAS and cuDNN, for their own scratch space
)


class NoMemory(UnlearningError):
    """A single record is too much for the device, so no smaller batch will help."""

    def __init__(self) -> None:
        super().__init__(
            "out_of_memory",
            "The model does not fit into the memory of the device, even with one record at a time: use a device with "
            "more memory.",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device or the host has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(word in str(error) for word in _WORDS)


def sparing(work: Callable[[int], T], size: int, undo: Callable[[], None]) -> tuple[T, int]:
    """What ``work(size)`` gives, and the size that it could be done with: halved each time memory runs out.

    undo: takes back what an interrupted ``work`` has left behind. Raises ``NoMemory`` when a single record is too much.
    """
    while True:
        try:
            return work(size), size
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise NoMemory from error
        # Not in the handler: the error's traceback holds on to the tensors of the pass.
        undo()
        _release_unused()
        size //= 2
        log.warning("memory_ran_out, records at a time from now on: %d", size)


def fitting(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The same records in batches of at most ``size``, in the same order."""
    for batch in batches:
        for start in range(0, len(batch.labels), size):
            part = slice(start, start + size)
            yield Batch({name: tensor[part] for name, tensor in batch.inputs.items()}, batch.labels[part])


def _release_unused() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
