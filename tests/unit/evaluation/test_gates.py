"""A gate must be able to fail."""

import numpy as np
import pytest

from core.evaluation import gates
from core.evaluation.scores import SetScores
from core.evaluation.yardstick import yardstick


def scores(loss: float, *, right: int = 100) -> SetScores:
    return SetScores(np.full(100, loss), np.array([1] * right + [0] * (100 - right)), np.ones(100, dtype=np.int64))


@pytest.mark.parametrize(("right", "passed"), [(100, True), (99, True), (98, False)])
def test_retain_accuracy_may_fall_by_the_limit(right: int, passed: bool) -> None:
    gate = gates.retain_accuracy_drop(scores(0.1), scores(0.1, right=right), limit=0.0101)
    assert gate.passed is passed
    assert gate.value == pytest.approx((100 - right) / 100)


@pytest.mark.parametrize(("loss", "reached", "within"), [(1.8, False, True), (1.9, True, True), (2.5, True, False)])
def test_forgetting_is_judged_on_both_sides(loss: float, reached: bool, within: bool) -> None:
    assert gates.forget_reached_target(scores(loss), 2.0, limit=0.95).passed is reached
    assert gates.forget_not_overshot(scores(loss), 2.0).passed is within


def test_without_a_holdout_the_target_gates_do_not_pass() -> None:
    gate = gates.forget_reached_target(scores(2.0), None, limit=0.95)
    assert gate.as_dict() == {"name": "forget_reached_target", "limit": 0.95, "value": None, "passed": False}


@pytest.mark.parametrize(
    ("after", "gained", "moved", "passed"),
    [
        (1.0, 0.5, 1.0, True),
        (1.0, 0.5, 0.0, False),  # no weight moved
        (1.0, 0.3, 1.0, False),  # less than owed
        (0.1, 0.5, 1.0, False),  # the loss did not rise
        (1.0, float("nan"), 1.0, False),
    ],
)
def test_something_must_have_changed(after: float, gained: float, moved: float, passed: bool) -> None:
    gate = gates.something_changed(scores(0.1), scores(after), owed=0.4, gained=gained, displacement=moved)
    assert gate.passed is passed


def test_a_run_that_owed_nothing_has_changed_nothing() -> None:
    assert not gates.something_changed(scores(0.1), scores(0.2), owed=0.0, gained=0.0, displacement=1.0).passed


def test_the_yardstick_lies_between_the_holdout_before_and_now() -> None:
    assert yardstick(scores(1.0), scores(4.0)) == 2.0
    assert yardstick(SetScores.empty(), SetScores.empty()) is None
    assert yardstick(scores(0.0), scores(1.0)) is None
