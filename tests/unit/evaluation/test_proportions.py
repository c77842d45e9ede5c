"""Shares, also of nothing and of everything."""

import pytest

from core.evaluation.proportions import proportion


def test_none_of_n_leaves_room() -> None:
    found = proportion(0, 20)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_all_of_n_leaves_room_below() -> None:
    found = proportion(20, 20)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 20))


def test_the_published_interval_of_ten_in_a_hundred() -> None:
    found = proportion(10, 100)
    assert (found.low, found.value, found.high) == pytest.approx((0.0490, 0.1, 0.1762), abs=1e-4)


def test_no_trials_say_nothing() -> None:
    assert not proportion(0, 0).known
