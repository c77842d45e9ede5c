"""Beside a model that was retrained without the forget set."""

import math

import numpy as np
import pytest

from core.evaluation.average_gap import average_gap
from core.evaluation.forget_quality import forget_quality
from core.evaluation.privleak import privleak
from core.evaluation.tug_of_war import tug_of_war


def test_the_same_answers_could_be_the_same_distribution() -> None:
    sample = np.arange(5.0)
    assert forget_quality(sample, sample) == 1.0


def test_three_against_three_apart() -> None:
    # Of the C(6, 3) = 20 ways to divide six ranks two are fully apart.
    assert forget_quality(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])) == pytest.approx(2 / 20)


def test_a_shift_of_many_is_seen() -> None:
    rng = np.random.default_rng(0)
    assert forget_quality(rng.normal(size=200), rng.normal(size=200) + 1) < 1e-6


def test_nothing_cannot_be_compared() -> None:
    assert math.isnan(forget_quality(np.empty(0), np.ones(2)))
    assert math.isnan(forget_quality(np.array([math.nan]), np.ones(2)))


def test_tug_of_war_is_pulled_down_by_any_set() -> None:
    retrained = {"forget": 0.8, "retain": 1.0, "test": 0.9}
    assert tug_of_war({"forget": 0.9, "retain": 0.8, "test": 0.9}, retrained) == pytest.approx(0.9 * 0.8)
    assert tug_of_war(retrained, retrained) == 1.0


def test_average_gap_counts_both_ways() -> None:
    found = average_gap({"forget": 0.3, "retain": 0.9}, {"forget": 0.2, "retain": 1.0})
    assert found == pytest.approx(0.1)


@pytest.mark.parametrize("metric", [tug_of_war, average_gap])
def test_both_models_answer_for_the_same_sets(metric: object) -> None:
    with pytest.raises(ValueError, match="not \\['forget'\\] and \\['retain'\\]"):
        metric({"forget": 1.0}, {"retain": 1.0})  # type: ignore[operator]


def test_privleak_is_negative_for_too_little_and_positive_for_too_much() -> None:
    assert privleak(1.0) == -100.0
    assert privleak(0.5) == 0.0
    assert privleak(0.0) == 100.0
    assert privleak(0.5, retrained=0.6) == pytest.approx(100 * (0.5 - 0.4) / 0.4)
    assert math.isnan(privleak(0.5, retrained=1.0))
    assert math.isnan(privleak(math.nan))
