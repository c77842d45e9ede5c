"""Was it the forget set that rose, or everything?"""

import math

import numpy as np
import pytest

from core.evaluation.specificity import specificity

FOUR = np.array([1.0, 2.0, 3.0, 4.0])


def test_pairs_counted_by_hand() -> None:
    # Of the 16 ordered pairs from 1 … 4 three have a mean of at least 3.5: (3, 4), (4, 3), (4, 4).
    found = specificity(np.array([3.0, 4.0]), FOUR, seed=0)
    assert found.low < 3 / 16 < found.high
    assert found.high - found.low < 0.02


def test_what_no_draw_reaches_has_a_share_of_almost_nothing() -> None:
    found = specificity(np.array([9.0, 9.0]), FOUR, seed=0)
    assert (found.value, found.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 10_000)))


def test_where_nothing_rose_every_draw_rose_as_much() -> None:
    assert specificity(np.zeros(5), np.zeros(50), seed=0).value == 1.0
    assert specificity(np.full(7, 0.1), np.full(50, 0.1), seed=0).value == 1.0


def test_large_sets_take_the_normal_tail() -> None:
    placebo = np.tile(FOUR, 100)  # mean 2.5, deviation sqrt(1.25)
    rise = 2.5 + 1.959964 * math.sqrt(1.25 / 2500)
    assert specificity(np.full(2500, rise), placebo, seed=0).value == pytest.approx(0.025, rel=1e-4)
    drawn = specificity(np.full(1600, 2.5 + 1.959964 * math.sqrt(1.25 / 1600)), placebo, seed=0)
    assert drawn.low < 0.025 < drawn.high
    assert specificity(np.full(2500, 0.5), np.full(9, 0.5), seed=0).value == 1.0


def test_a_model_that_was_destroyed_is_not_specific() -> None:
    assert specificity(np.full(3, math.inf), np.full(3, math.inf), seed=0).value == 1.0


def test_nothing_says_nothing() -> None:
    assert not specificity(np.empty(0), FOUR, seed=0).known
    assert not specificity(FOUR, np.empty(0), seed=0).known
    assert not specificity(np.array([math.nan]), FOUR, seed=0).known
