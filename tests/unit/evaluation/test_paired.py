"""Losses of the same records, class by class and altogether."""

import math

import numpy as np
import pytest

from core.evaluation.estimates import Estimate
from core.evaluation.paired import accuracy_drop, mean_change, perplexity_ratio
from core.evaluation.scores import SetScores
from core.evaluation.worst_class_drop import worst_class_drop


def scores(losses: list[float], correct: list[int], counted: list[int]) -> SetScores:
    return SetScores(np.array(losses), np.array(correct), np.array(counted))


def test_the_drop_is_that_of_the_accuracies() -> None:
    before, after = scores([0, 0], [1, 3], [1, 3]), scores([0, 0], [1, 1], [1, 3])
    found = accuracy_drop(before, after, seed=0)
    assert found.value == before.accuracy - after.accuracy == 0.5
    assert (found.low, found.high) == (0.0, 2 / 3)  # one record twice: 0 of 1 lost, or 2 of 3


def test_pairs_are_far_surer_than_two_sets() -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(2, size=500)
    worse = right.copy()
    worse[:5] = 0
    ones, zeros = np.ones(500, dtype=int), np.zeros(500)
    found = accuracy_drop(SetScores(zeros, right, ones), SetScores(zeros, worse, ones), seed=0)
    assert found.high - found.low < 0.02  # two separate sets: 2 · 1.96 · sqrt(2 · 0.25 / 500) = 0.12


def test_perplexity_weighs_answers() -> None:
    found = perplexity_ratio(scores([1, 1], [0, 0], [1, 3]), scores([2, 3], [0, 0], [1, 3]), seed=0)
    assert found.value == pytest.approx(math.exp((1 * 1 + 2 * 3) / 4))
    assert (found.low, found.high) == pytest.approx((math.e, math.e**2))


def test_perplexity_beyond_the_floats_is_infinite() -> None:
    assert perplexity_ratio(scores([0], [0], [1]), scores([1e4], [0], [1]), seed=0).value == math.inf


def test_nothing_says_nothing() -> None:
    empty = SetScores.empty()
    assert not accuracy_drop(empty, empty, seed=0).known
    assert not perplexity_ratio(empty, empty, seed=0).known
    assert not mean_change(np.empty(0), np.empty(0), seed=0).known
    assert worst_class_drop(np.empty(0), np.empty(0), np.empty(0, dtype=int), seed=0).label is None


def test_the_mean_change_of_a_constant_is_certain() -> None:
    found = mean_change(np.arange(9.0), np.arange(9.0) + 2, seed=0)
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)


def test_the_class_that_lost_most_decides() -> None:
    classes = np.repeat([0, 1], 20)
    after = np.ones(40)
    after[[0, 20, 21, 22]] = 0
    found = worst_class_drop(np.ones(40), after, classes, seed=0)
    assert (found.label, found.drop.value) == (1, pytest.approx(3 / 20))
    assert found.drop.low < 3 / 20 < found.drop.high < 0.5


def test_that_one_of_ten_classes_lost_a_few_answers_may_be_chance_but_not_that_it_lost_half() -> None:
    classes = np.repeat(np.arange(10), 36)

    def after(*lost: int) -> np.ndarray:
        answers = np.ones((10, 36))
        for row, count in zip(answers, lost, strict=True):
            row[:count] = 0
        return answers.ravel()

    few = worst_class_drop(np.ones(360), after(2, 1, 0, 3, 1, 0, 1, 2, 1, 0), classes, seed=0).drop
    assert few.value == pytest.approx(3 / 36)
    assert few.low < 0.03 < few.value < few.high
    half = worst_class_drop(np.ones(360), after(0, 0, 0, 18, 0, 0, 0, 0, 0, 0), classes, seed=0).drop
    assert 0.1 < half.low < half.value == 0.5


def test_small_classes_are_judged_together() -> None:
    classes = np.array([0] * 30 + [1] * 3 + [2] * 5)
    after = np.ones(38)
    after[[30, 31, 32, 33]] = 0  # all of class 1 and one of class 2: 4 of 8
    found = worst_class_drop(np.ones(38), after, classes, seed=0)
    assert (found.label, found.drop.value) == (None, 0.5)
    alone = worst_class_drop(np.ones(38), after, classes, seed=0, least_records=1)
    assert (alone.label, alone.drop.value) == (1, 1.0)


def test_classes_that_all_gained_have_a_negative_drop_in_every_resample() -> None:
    classes = np.array([0] * 20 + [1])  # class 1 is left out of every third resample
    found = worst_class_drop(np.zeros(21), np.ones(21), classes, seed=0, least_records=1)
    assert found.drop == Estimate.exact(-1.0)
