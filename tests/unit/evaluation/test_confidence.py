"""Logit-scaled confidence."""

import math

import numpy as np
import pytest

from core.evaluation.confidence import logit_confidence


def test_four_to_one_is_log_four() -> None:
    found = logit_confidence(np.log([[0.8, 0.2], [0.25, 0.75]]), np.array([0, 0]))
    assert found == pytest.approx([math.log(4), -math.log(3)])


def test_records_whose_loss_rounds_to_zero_are_still_told_apart() -> None:
    log_probs = np.array([[0.0, -40.0, -200.0], [0.0, -30.0, -200.0]], dtype=np.float32)
    assert logit_confidence(log_probs, np.array([0, 0])) == pytest.approx([40.0, 30.0])


def test_logits_serve_as_well() -> None:
    logits = np.array([[3.0, 1.0, 0.0]])
    log_probs = logits - np.log(np.exp(logits).sum())
    expected = 3 - math.log(math.e + 1)
    assert logit_confidence(logits, np.array([0])) == pytest.approx([expected])
    assert logit_confidence(log_probs, np.array([0])) == pytest.approx([expected])


def test_certainty_is_infinite() -> None:
    sure = np.array([[0.0, -np.inf]])
    assert logit_confidence(sure, np.array([0])).tolist() == [math.inf]
    assert logit_confidence(sure, np.array([1])).tolist() == [-math.inf]


def test_the_given_log_probabilities_are_left_as_they_are() -> None:
    log_probs = np.log([[0.5, 0.5]])
    logit_confidence(log_probs, np.array([0]))
    assert np.isfinite(log_probs).all()
    assert logit_confidence(np.empty((0, 3)), np.empty(0, dtype=int)).shape == (0,)
