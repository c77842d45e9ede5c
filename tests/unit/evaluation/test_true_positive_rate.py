"""Sure recognitions, counted by hand."""

import math

import numpy as np
import pytest

from core.evaluation.true_positive_rate import attack_tpr, true_positive_rate

HUNDRED = np.arange(100.0)


def test_the_threshold_lets_one_of_a_hundred_through() -> None:
    # One holdout record (99) may be called a member, so the threshold is 98: 100 and 98.5 lie above it.
    assert true_positive_rate(np.array([100.0, 98.5, 98.0, 50.0]), HUNDRED) == 0.5


def test_a_score_that_says_nothing_has_the_rate_of_guessing() -> None:
    assert true_positive_rate(np.ones(4), np.ones(200)) == pytest.approx(0.01)


def test_ties_at_the_threshold_count_by_the_room_that_is_left() -> None:
    # 3 of 300 are allowed: one lies above, four tie, so half of the ties count; of the forget set 1 above, 2 tied.
    holdout = np.concatenate([[9.0], np.full(4, 5.0), np.zeros(295)])
    assert true_positive_rate(np.array([7.0, 5.0, 5.0, 1.0]), holdout) == pytest.approx((1 + 2 * 0.5) / 4)


def test_a_small_holdout_cannot_show_a_small_rate() -> None:
    assert math.isnan(true_positive_rate(np.array([1.0]), HUNDRED[:99]))
    assert not attack_tpr(np.array([1.0, 2.0]), HUNDRED[:99], seed=0).known
    assert true_positive_rate(np.array([99.0, 0.0]), HUNDRED[:10], fpr=0.1) == 0.5


def test_nothing_says_nothing() -> None:
    assert math.isnan(true_positive_rate(np.empty(0), HUNDRED))
    assert math.isnan(true_positive_rate(np.array([math.nan]), HUNDRED))


def test_only_ranks_count() -> None:
    rng = np.random.default_rng(0)
    forget, holdout = rng.normal(size=50) + 1, rng.normal(size=500)
    assert true_positive_rate(np.exp(forget), np.exp(holdout)) == true_positive_rate(forget, holdout) > 0


def test_none_of_twenty_leaves_room_for_one_in_six() -> None:
    found = attack_tpr(np.zeros(20), HUNDRED, seed=0)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 20))
