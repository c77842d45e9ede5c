"""The forget loss beside strangers', and the way there."""

import math

import numpy as np
import pytest

from core.evaluation.gap_closed import gap_closed
from core.evaluation.loss_ratio import forget_loss_p95_ratio, forget_loss_ratio


def test_the_yardstick_is_the_middle_of_before_and_now() -> None:
    # holdout means 1 before and 4 now: yardstick sqrt(4) = 2; the forget set's mean is 3
    found = forget_loss_ratio(np.array([2.0, 4.0]), np.array([0.5, 1.5]), np.array([3.0, 5.0]), seed=0)
    assert found.value == 1.5


def test_holdout_records_keep_their_before_and_now_together() -> None:
    # Each holdout record has before · now = 1, so the ratio of a record to itself is certain.
    before = np.full(50, 2.0)
    found = forget_loss_ratio(np.ones(50), before, 1 / before, seed=0)
    assert (found.low, found.high) == pytest.approx((1.0, 1.0))


def test_strangers_whom_chance_left_without_a_hard_record_do_not_fail() -> None:
    holdout = np.array([0.01] * 95 + [2.0] * 5)  # a mean of 0.11, nearly all of it in one record of twenty
    few = forget_loss_ratio(np.full(20, 0.01), holdout, holdout, seed=0)
    assert few.value == pytest.approx(0.01 / holdout.mean())
    assert few.low < few.value < 0.8 < few.high  # a third of all sets of twenty strangers look like this
    many = forget_loss_ratio(np.full(400, 0.01), holdout, holdout, seed=0)
    assert many.high < 0.8  # and of sets of four hundred none
    known = forget_loss_ratio(np.full(20, 0.0001), holdout, holdout, seed=0)
    assert known.high < 0.8


def test_the_chance_of_strangers_narrows_no_interval() -> None:
    plain = np.ones(50)  # strangers who are all alike leave nothing to chance, the forget set does
    mixed = forget_loss_ratio(np.array([0.0, 2.0] * 10), plain, plain, seed=0)
    assert mixed.low < 0.8
    assert mixed.high > 1.2


def test_beside_the_95th_percentile() -> None:
    assert forget_loss_p95_ratio(np.array([18.0, 20.0]), np.arange(1.0, 101.0), seed=0).value == pytest.approx(0.2)


def test_nothing_to_compare_with() -> None:
    assert not forget_loss_ratio(np.ones(3), np.empty(0), np.empty(0), seed=0).known
    assert not forget_loss_p95_ratio(np.empty(0), np.ones(3), seed=0).known
    assert not forget_loss_ratio(np.zeros(2), np.zeros(2), np.zeros(2), seed=0).known


def test_the_gap_is_what_is_lacking_record_by_record() -> None:
    before, after, targets = np.array([-8.0, -6.0]), np.array([-5.0, -2.0]), np.array([-1.0, 1.0])
    assert gap_closed(before, after, targets) == pytest.approx(1 - (4 + 3) / (7 + 7))
    assert gap_closed(before, before, targets) == 0.0
    assert gap_closed(before, before - 1, targets) < 0


def test_what_is_above_its_target_makes_up_for_nothing() -> None:
    before, targets = np.array([-8.0, -8.0]), np.array([0.0, 2.0])
    assert gap_closed(before, np.array([-8.0, 20.0]), targets) == pytest.approx(1 - 8 / 18)


def test_another_order_of_easy_and_hard_records_lacks_nothing() -> None:
    assert gap_closed(np.array([-8.0, -9.0]), np.array([2.0, 0.0]), np.array([0.0, 2.0])) == 1.0


def test_where_nothing_was_lacking_there_is_no_gap() -> None:
    assert math.isnan(gap_closed(np.ones(3), np.ones(3), np.zeros(3)))
    assert math.isnan(gap_closed(np.empty(0), np.empty(0), np.empty(0)))
