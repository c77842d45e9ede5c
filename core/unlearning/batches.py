"""What both tasks have in common: encoded records, batches, and the scores of a batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.evaluation.observations import Observation
from core.evaluation.scores import SetScores
from core.unlearning.ahead import ahead
from core.unlearning.cache import ExampleCache
from core.unlearning.example import Example
from core.unlearning.records import Dataset, Record
from core.unlearning.sampler import BATCHES_A_WINDOW, WindowSampler
from core.unlearning.selection import Places

_HELD_BYTES = 512 * 2**20
"""Encoded records of one set that may stay in memory; a larger set is read from its files every time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples of one forward pass on the model's device: the model's arguments by name, and the labels."""

    inputs: dict[str, Tensor]
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """Of each record of a batch, shape (n,): mean loss in nats (differentiable), right answers, and answers asked."""

    losses: Tensor
    correct: Tensor
    counted: Tensor

    def on_host(self) -> SetScores:
        """The same as arrays, without their graph."""
        losses = self.losses.detach().double().cpu().numpy()
        return SetScores(losses, self.correct.cpu().numpy(), self.counted.cpu().numpy())


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answers to each record of a batch: over all choices, not only the right one."""

    log_probabilities: Tensor
    """(n, answers, choices), differentiable."""
    scored: Tensor
    """(n, answers) bool: which answers a record's loss is the mean of."""


class Family(Protocol):
    """How the records of one task become batches and losses."""

    columns: Sequence[str]
    """The dataset's columns that ``encode`` needs."""

    def encode(self, record: Record) -> Example:
        """Raises ``BadRecord``."""
        ...

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """One batch of at least one example."""
        ...

    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """One forward pass; gradients flow through ``losses`` unless they are switched off."""
        ...

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        """One forward pass; gradients flow unless they are switched off."""
        ...

    def observe(self, model: nn.Module, batch: Batch) -> Observation:
        """One forward pass without gradients: the same scores as ``score``, and what lies behind them."""
        ...


def encoded(dataset: Dataset, family: Family, places: Places, cache: ExampleCache | None = None) -> Iterator[Example]:
    """The records at ``places``, sorted by file and row and each once, read and encoded unless the cache has them.

    Raises ``BadRecord``.
    """
    if cache is None:
        yield from (family.encode(record) for record in dataset.read(places))
        return
    known = cache.known(places.file, places.row)
    records = dataset.read(places.take(np.flatnonzero(~known)))
    for file, row, here in zip(places.file.tolist(), places.row.tolist(), known.tolist(), strict=True):
        if here:
            yield cache.get(file, row)
        else:
            example = family.encode(next(records))
            cache.add(file, row, example)
            yield example


class RetainBatches:
    """Endless retain batches; memory holds two windows of encoded records, one of them in the making."""

    def __init__(
        self,
        dataset: Dataset,
        family: Family,
        places: Places,
        *,
        batch_size: int,
        seed: int,
        cache: ExampleCache | None = None,
    ) -> None:
        """places: sorted by file and row, each once."""
        self._dataset = dataset
        self._family = family
        self._places = places
        self._cache = cache
        self._sampler = WindowSampler(dataset.groups(places), batch_size=batch_size, seed=seed)

    @property
    def records(self) -> int:
        """Size of the whole retain set."""
        return len(self._places)

    @property
    def batch_size(self) -> int:
        """Examples of one batch."""
        return self._sampler.batch_size

    def steps(self, epochs: int) -> int:
        """How many batches hold every record ``epochs`` times."""
        return math.ceil(epochs * len(self._places) / self.batch_size)

    def __iter__(self) -> Iterator[list[Example]]:
        """Batches of ``batch_size`` examples, or of the whole set if it is smaller. Raises ``BadRecord``."""
        return self.after(0)

    def after(self, taken: int) -> Iterator[list[Example]]:
        """The same batches without the first ``taken``, of which only the window that they end in is read."""
        windows, batches = divmod(taken, BATCHES_A_WINDOW)
        return islice(self._batches(windows), batches, None)

    def _batches(self, start: int) -> Iterator[list[Example]]:
        size = self.batch_size
        for window in ahead(self._windows(start)):
            for i in range(BATCHES_A_WINDOW):
                yield window[i * size : (i + 1) * size]

    def _windows(self, start: int) -> Iterator[list[Example]]:
        """The examples of each window, in the order of its batches."""
        for window in self._sampler.windows(start=start):
            unique, where = np.unique(window, return_inverse=True)
            examples = list(encoded(self._dataset, self._family, self._places.take(unique), self._cache))
            yield [examples[k] for k in where]


class ExampleSet:
    """The records of one set in order, as often as needed; held in memory once read if they are small enough."""

    def __init__(
        self,
        dataset: Dataset,
        family: Family,
        places: Places,
        *,
        hold_bytes: int = _HELD_BYTES,
        cache: ExampleCache | None = None,
    ) -> None:
        """places: sorted by file and row, each once."""
        self._cache = cache
        self._dataset = dataset
        self._family = family
        self._places = places
        self._hold_bytes = hold_bytes
        self._held: list[Example] | None = None
        self._parts: dict[tuple[int, int], ExampleSet] = {}

    def part(self, where: slice) -> "ExampleSet":
        """The records from ``where.start`` to ``where.stop`` as a set; the same one each time, for what it holds."""
        ends = where.start, where.stop
        if ends not in self._parts:
            self._parts[ends] = self.take(np.arange(*ends))
        return self._parts[ends]

    def __len__(self) -> int:
        return len(self._places)

    def take(self, index: NDArray[np.integer]) -> "ExampleSet":
        """The records at ``index`` as a set of their own, in the order of this one."""
        places = self._places.take(np.sort(index))
        return ExampleSet(self._dataset, self._family, places, hold_bytes=self._hold_bytes, cache=self._cache)

    def chunks(self, size: int) -> Iterator[list[Example]]:
        """Consecutive lists of ``size`` examples; the last may be shorter. Raises ``BadRecord``."""
        chunks = self._chunks(size)
        return chunks if self._held is not None else ahead(chunks)

    def _chunks(self, size: int) -> Iterator[list[Example]]:
        examples = iter(self)
        while chunk := list(islice(examples, size)):
            yield chunk

    def __iter__(self) -> Iterator[Example]:
        if self._held is not None:
            yield from self._held
            return
        kept: list[Example] | None = []
        room = self._hold_bytes
        for example in encoded(self._dataset, self._family, self._places, self._cache):
            room -= example.values.nbytes + example.labels.nbytes
            if kept is not None and room >= 0:
                kept.append(example)
            else:
                kept = None
            yield example
        self._held = kept
