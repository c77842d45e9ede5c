"""What comes back: by rounding, by training on, by a new last layer."""

import math

import numpy as np
import pytest

from core.evaluation.linear_probe import RIDGE, Probe, probe_gap
from core.evaluation.recovery import recovery
from core.evaluation.relearning import LEAST_PROGRESS, progress, relearn_speed


def test_a_third_came_back() -> None:
    original, unlearned, attacked = np.ones(4), np.array([0, 0, 0, 1]), np.array([1, 0, 0, 1])
    assert recovery(original, unlearned, attacked, seed=0).value == pytest.approx((0.5 - 0.25) / (1 - 0.25))


def test_losses_recover_with_the_same_sign() -> None:
    losses = [np.array([0.0, 0.2]), np.array([2.0, 2.2]), np.array([1.5, 1.7])]
    found = recovery(*losses, seed=0)
    assert (found.low, found.value, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_where_nothing_was_forgotten_nothing_can_come_back() -> None:
    assert not recovery(np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.zeros(2), seed=0).known
    assert not recovery(np.empty(0), np.empty(0), np.empty(0), seed=0).known


def test_speed_is_the_area_under_the_curve_of_progress() -> None:
    forget = np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 2.0]])  # mean 2, 1, 1: fallen by 0.5 and 0.5
    control = np.array([[4.0, 4.0, 2.0]])  # fallen by 0 and 0.5
    assert (progress(forget), progress(control)) == (0.5, 0.25)
    assert relearn_speed(forget, control, seed=0).value == 2.0


def test_scale_does_not_make_a_set_fast() -> None:
    curves = np.array([4.0, 3.0, 2.0, 1.0]) + np.random.default_rng(0).random((20, 4))
    found = relearn_speed(curves, 7 * curves, seed=0)
    assert found.value == pytest.approx(1.0)
    assert found.low < 1 < found.high


def test_a_set_that_comes_back_beside_a_control_that_learned_nothing_is_fast() -> None:
    forget, still, worse = np.array([[2.0, 1.0]]), np.array([[1.0, 1.0]]), np.array([[1.0, 3.0]])
    for control in (still, worse):
        assert relearn_speed(forget, control, seed=0).value == pytest.approx(0.5 / LEAST_PROGRESS)
    assert relearn_speed(still, still, seed=0).value == 0.0


def test_without_records_there_is_no_speed() -> None:
    assert not relearn_speed(np.array([[2.0, 1.0]]), np.empty((0, 2)), seed=0).known
    assert math.isnan(progress(np.empty((0, 2))))


def test_curves_have_as_many_steps() -> None:
    with pytest.raises(ValueError, match="not 1 and 2"):
        relearn_speed(np.ones((1, 2)), np.ones((1, 3)), seed=0)


def test_the_probe_is_the_ridge_solution() -> None:
    # One feature of mean 0 and variance 1: the slope for class 1 is 0.5 / (1 + ridge).
    probe = Probe.fit(np.array([[-1.0], [1.0]]), np.array([0, 1]), classes=2)
    high = 0.5 + 0.5 / (1 + RIDGE)
    assert probe.scores(np.array([[1.0], [0.0]])) == pytest.approx(np.array([[1 - high, high], [0.5, 0.5]]))
    assert probe.correct(np.array([[0.3], [0.3]]), np.array([1, 0])).tolist() == [True, False]


def test_features_that_carry_the_class_are_found() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=90)
    features = np.eye(3)[labels] + rng.normal(size=(90, 3)) / 10
    probe = Probe.fit(features[:60], labels[:60], classes=3)
    assert probe.correct(features[60:], labels[60:]).mean() == 1.0
    assert probe.correct(rng.normal(size=(300, 3)), rng.integers(3, size=300)).mean() < 0.5


def test_more_features_than_records_and_dead_features_are_fine() -> None:
    features = np.array([[1.0, 0.0, 5.0], [2.0, 0.0, 5.0]])
    assert Probe.fit(features, np.array([0, 1]), classes=2).correct(features, np.array([0, 1])).all()


def test_no_records_make_no_probe() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        Probe.fit(np.empty((0, 2)), np.empty(0, dtype=int), classes=2)


def test_the_gap_is_forget_minus_holdout() -> None:
    assert probe_gap(np.array([True, True]), np.array([True, False, False, False]), seed=0).value == 0.75
