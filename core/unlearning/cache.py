"""Encoded records on the local disk, so that a picture is decoded and a text tokenised once in a run.

The file has no name: the system frees it with the process, whatever ends that, and no other run can read it. A cache
that outlived its run would serve the next one on the same data set, and would also hold records after their erasure.
"""

import math
import os
import tempfile
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.unlearning.example import Example

_MOST_BYTES: Final = 4 * 2**30
_DTYPES: Final = (np.dtype(np.float32), np.dtype(np.int64))
_HEAD: Final = 8
"""Numbers before an example's own: dtype of the values, labels, dimensions of the values, up to five extents."""


@dataclass(slots=True)
class _Index:
    """Where the rows of one file lie in the cache; 0 length is nowhere."""

    start: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    length: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def grow(self, rows: int) -> None:
        missing = max(rows, 2 * len(self.start)) - len(self.start)
        self.start, self.length = (np.pad(numbers, (0, missing)) for numbers in (self.start, self.length))


class ExampleCache:
    """Examples by file and row, of one data set in one encoding. Safe to use from several threads.

    It takes no more once it holds ``most_bytes``; memory holds 16 bytes a row of the data set.
    """

    def __init__(self, folder: Path, *, most_bytes: int = _MOST_BYTES) -> None:
        """folder: private scratch space on the local disk."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as the cache)
        weakref.finalize(self, self._file.close)
        self._most = most_bytes
        self._used = 0
        self._index: dict[int, _Index] = {}
        self._lock = threading.Lock()

    def known(self, file: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these places ``get`` will find."""
        found = np.zeros(len(row), dtype=np.bool_)
        with self._lock:
            for number, index in self._index.items():
                here = (file == number) & (row < len(index.length))
                found[here] = index.length[row[here]] > 0
        return found

    def get(self, file: int, row: int) -> Example:
        """The example at a place that is known. Raises ``KeyError`` for one that was never added."""
        with self._lock:
            index = self._index[file]
            start, length = int(index.start[row]), int(index.length[row])
        return _unpacked(os.pread(self._file.fileno(), length, start))

    def add(self, file: int, row: int, example: Example) -> None:
        """Keep an example, if there is room."""
        packed = _packed(example)
        with self._lock:
            if packed is None or self._used + len(packed) > self._most:
                return
            index = self._index.setdefault(file, _Index())
            if row >= len(index.start):
                index.grow(row + 1)
            if not self._written(packed):
                return
            index.start[row], index.length[row] = self._used, len(packed)
            self._used += len(packed)

    def _written(self, packed: bytes) -> bool:
        """Whether the disk took it; a full one ends the adding."""
        try:
            taken = os.pwrite(self._file.fileno(), packed, self._used)
        except OSError:
            taken = 0
        if taken < len(packed):
            self._most = self._used
        return taken == len(packed)


def _packed(example: Example) -> bytes | None:
    values, labels = example.values, example.labels
    if values.dtype not in _DTYPES or values.ndim > _HEAD - 3:
        return None
    extents = [*values.shape, *[0] * (_HEAD - 3 - values.ndim)]
    head = np.array([_DTYPES.index(values.dtype), len(labels), values.ndim, *extents], dtype=np.int64)
    return head.tobytes() + labels.tobytes() + values.tobytes()


def _unpacked(packed: bytes) -> Example:
    dtype, count, dimensions, *extents = np.frombuffer(packed, np.int64, _HEAD).tolist()
    shape = extents[:dimensions]
    labels = np.frombuffer(packed, np.int64, count, 8 * _HEAD)
    values = np.frombuffer(packed, _DTYPES[dtype], math.prod(shape), 8 * (_HEAD + count))
    return Example(values.reshape(shape), labels)
