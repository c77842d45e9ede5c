"""Observations are cut and joined without mixing up records."""

import numpy as np

from core.evaluation.observations import ClassAnswers, Observation, TokenAnswers, joined
from core.evaluation.scores import SetScores


def spoken(*records: list[float]) -> Observation:
    """Records by the log-probabilities of their tokens."""
    tokens = np.array([value for record in records for value in record], dtype=np.float32)
    lengths = np.array([len(record) for record in records])
    losses = np.array([-np.mean(record) for record in records])
    scores = SetScores(losses, np.zeros(len(records), dtype=np.int64), lengths)
    return Observation(scores, TokenAnswers(tokens, tokens > -1, tokens * 2, tokens * 3, lengths))


def test_records_taken_keep_their_own_tokens() -> None:
    seen = spoken([-1, -2], [-3], [-4, -5, -6]).take(np.array([2, 0, 2]))
    assert isinstance(seen.answers, TokenAnswers)
    assert seen.answers.lengths.tolist() == [3, 2, 3]
    assert seen.answers.log_probabilities.tolist() == [-4, -5, -6, -1, -2, -4, -5, -6]
    assert seen.answers.spread.tolist() == [-12, -15, -18, -3, -6, -12, -15, -18]
    assert seen.scores.losses.tolist() == [5, 1.5, 5]


def test_batches_are_joined_in_order() -> None:
    seen = joined([spoken([-1, -2]), Observation.empty(), spoken([-3], [-4])])
    assert isinstance(seen.answers, TokenAnswers)
    assert [seen.answers.log_probabilities[here].tolist() for here in seen.answers.slices()] == [[-1, -2], [-3], [-4]]
    assert seen.scores.losses.tolist() == [1.5, 3, 4]


def test_classes_follow_their_records() -> None:
    scores = SetScores(np.array([0.1, 0.2]), np.array([1, 0]), np.array([1, 1]))
    one = Observation(scores, ClassAnswers(np.array([7, 8]), np.array([3.0, -2.0])))
    seen = joined([one, one]).take(np.array([3, 0]))
    assert isinstance(seen.answers, ClassAnswers)
    assert seen.answers.labels.tolist() == [8, 7]
    assert seen.answers.confidence.tolist() == [-2, 3]
    assert seen.scores.correct.tolist() == [0, 1]


def test_nothing_joined_is_an_empty_set() -> None:
    assert len(joined([])) == 0
    assert len(spoken([-1]).take(np.empty(0, dtype=np.int64))) == 0
