"""Which retain records each step sees: shuffled every epoch, resumable, and kind to files."""

from collections.abc import Iterator
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from core.unlearning.seed import generator

BATCHES_A_WINDOW = 16
_UNITS_A_WINDOW = 8


class WindowSampler:
    """Endless windows of record indices, ``BATCHES_A_WINDOW`` batches each, every epoch in another order.

    Within an epoch the records of a row group are shuffled and cut into units, the units are shuffled, and the stream
    of units is cut into windows, which are shuffled once more. A caller reads one window at a time: it touches few row
    groups and bounds what memory holds, and a dataset smaller than a window is shuffled perfectly. Epochs follow each
    other without a gap, so all batches have the same size and every record is seen once an epoch.

    The same seed gives the same windows; ``windows(start=n)`` goes on where another sampler stood after n windows.
    """

    def __init__(self, groups: NDArray[np.int64], *, batch_size: int, seed: int) -> None:
        """groups: row group of each record, shape (records,), at least one record."""
        self.batch_size = min(batch_size, len(groups))
        self._groups = groups
        self._seed = seed

    def windows(self, *, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """Indices into ``groups``, shape (BATCHES_A_WINDOW * batch_size,), for ever."""
        return islice(self._windows(), start, None)

    def _windows(self) -> Iterator[NDArray[np.int64]]:
        size = self.batch_size * BATCHES_A_WINDOW
        waiting = np.empty(0, dtype=np.int64)
        for epoch in count():
            rng = generator(self._seed, "retain", epoch)
            waiting = np.concatenate([waiting, self._epoch(rng, unit=max(1, size // _UNITS_A_WINDOW))])
            while len(waiting) >= size:
                window, waiting = waiting[:size], waiting[size:]
                yield window if len(self._groups) < size else rng.permutation(window)

    def _epoch(self, rng: np.random.Generator, *, unit: int) -> NDArray[np.int64]:
        """Every index once: shuffled within units of one row group, and the units among themselves."""
        order = rng.permutation(len(self._groups))
        order = order[np.argsort(self._groups[order], kind="stable")]
        edges = np.flatnonzero(np.diff(self._groups[order])) + 1
        units = [group[i : i + unit] for group in np.split(order, edges) for i in range(0, len(group), unit)]
        mixed = np.concatenate([units[i] for i in rng.permutation(len(units))])
        return rng.permutation(mixed) if len(mixed) <= unit * _UNITS_A_WINDOW else mixed
