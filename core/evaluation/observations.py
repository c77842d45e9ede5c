"""What a model said to each record of a set, in the detail that the metrics ask for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.evaluation.scores import SetScores


@dataclass(frozen=True, slots=True)
class ClassAnswers:
    """Of each record, shape (n,): its class, and how sure the model is of it."""

    labels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    """log p − log(1 − p) of the right class, in nats; taken from the logits, so a sure answer is not infinite."""

    def take(self, index: NDArray[np.integer]) -> "ClassAnswers":
        """Those of the records at ``index``, in that order."""
        return ClassAnswers(self.labels[index], self.confidence[index])


@dataclass(frozen=True, slots=True)
class TokenAnswers:
    """Of each scored token, shape (tokens,), one record after the other; ``lengths`` (n,) are the records' tokens."""

    log_probabilities: NDArray[np.float32]
    right: NDArray[np.bool_]
    """Whether the likeliest token was the right one."""
    expected: NDArray[np.float32]
    """Mean of log p over the vocabulary, weighted with the model's own p."""
    spread: NDArray[np.float32]
    """Standard deviation of log p under the same weights."""
    lengths: NDArray[np.int64]

    def slices(self) -> list[slice]:
        """Where each record's tokens lie."""
        ends = np.cumsum(self.lengths).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths.tolist(), strict=True)]

    def take(self, index: NDArray[np.integer]) -> "TokenAnswers":
        """Those of the records at ``index``, in that order."""
        places = self.slices()
        spans = [np.arange(places[i].start, places[i].stop) for i in index]
        tokens = np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)
        return TokenAnswers(
            self.log_probabilities[tokens],
            self.right[tokens],
            self.expected[tokens],
            self.spread[tokens],
            self.lengths[index],
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """A set as a model answered it: the scores of its records, and what lies behind them (None for an empty set)."""

    scores: SetScores
    answers: ClassAnswers | TokenAnswers | None

    @classmethod
    def empty(cls) -> "Observation":
        """Of a set without records."""
        return cls(SetScores.empty(), None)

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: NDArray[np.integer]) -> "Observation":
        """The records at ``index``, in that order; they may repeat."""
        if self.answers is None or not len(index):
            return Observation.empty()
        return Observation(self.scores.take(index), self.answers.take(index))


def joined(parts: Sequence[Observation]) -> Observation:
    """The observations of consecutive batches as one. All of them answer the same task."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return Observation.empty()
    scores = [part.scores for part in parts]
    together = SetScores(
        np.concatenate([each.losses for each in scores]),
        np.concatenate([each.correct for each in scores]),
        np.concatenate([each.counted for each in scores]),
    )
    classes = [part.answers for part in parts if isinstance(part.answers, ClassAnswers)]
    if classes:
        labels = np.concatenate([each.labels for each in classes])
        return Observation(together, ClassAnswers(labels, np.concatenate([each.confidence for each in classes])))
    tokens = [part.answers for part in parts if isinstance(part.answers, TokenAnswers)]
    return Observation(together, _tokens_joined(tokens))


def _tokens_joined(parts: Sequence[TokenAnswers]) -> TokenAnswers:
    return TokenAnswers(
        np.concatenate([part.log_probabilities for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.expected for part in parts]),
        np.concatenate([part.spread for part in parts]),
        np.concatenate([part.lengths for part in parts]),
    )
