"""What a model answered to each record of a set, and the numbers of the whole set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SetScores:
    """Of each record, shape (records,): mean loss in nats, right answers, and answers asked.

    An answer is a class for a classifier and a token for a language model.
    """

    losses: NDArray[np.floating]
    correct: NDArray[np.integer]
    counted: NDArray[np.integer]

    @classmethod
    def empty(cls) -> "SetScores":
        """A set without records."""
        return cls(np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence["SetScores"]) -> "SetScores":
        """The records of all ``parts``, in their order."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def __len__(self) -> int:
        return len(self.losses)

    def take(self, index: NDArray[np.integer]) -> "SetScores":
        """The records at ``index``, in that order; they may repeat."""
        return SetScores(self.losses[index], self.correct[index], self.counted[index])

    @property
    def loss(self) -> float:
        """Mean of the records' losses in nats; nan for an empty set."""
        return float(self.losses.mean()) if len(self) else math.nan

    @property
    def accuracy(self) -> float:
        """Share of all answers that are right, so long records weigh more; nan for an empty set."""
        return float(self.correct.sum() / self.counted.sum()) if len(self) else math.nan

    @property
    def perplexity(self) -> float:
        """exp of the mean loss of an answer (not of a record); nan for an empty set, inf beyond exp(700)."""
        if not len(self):
            return math.nan
        mean = float((self.losses * self.counted).sum() / self.counted.sum())
        return math.exp(mean) if mean < 700 else math.inf
