"""Intervals: deterministic, honest about few records, and wide enough."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from core.evaluation import statistics
from core.evaluation.bootstrap import WeightedStatistic, bootstrap, evaluate, weighted_bootstrap
from core.evaluation.estimates import Estimate

PLAIN = {
    "mean": (statistics.mean, np.mean, 1),
    "difference": (statistics.difference_of_means, lambda a, b: a.mean() - b.mean(), 2),
    "ratio": (statistics.ratio_of_means, lambda a, b: a.mean() / b.mean(), 2),
    "auc": (
        statistics.area_under_roc,
        lambda a, b: roc_auc_score([1] * len(a) + [0] * len(b), np.concatenate([a, b])),
        2,
    ),
    "quantile": (statistics.quantile(0.9), lambda a: np.quantile(a, 0.9, method="inverted_cdf"), 1),
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_fast_path_gives_what_the_slow_path_gives(name: str) -> None:
    fast, slow, samples = PLAIN[name]
    rng = np.random.default_rng(3)
    data = [rng.integers(1, 9, size=size) / 2 for size in (12, 17)[:samples]]
    expected = bootstrap(slow, *data, seed=5, draws=60)
    found = weighted_bootstrap(fast, *data, seed=5, draws=60)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_the_interval_of_a_mean_is_that_of_the_textbook() -> None:
    # 400 zeros and ones, half each: standard error sqrt(0.25 / 400) = 0.025, so 0.5 ± 1.96 · 0.025 = 0.451 … 0.549
    found = weighted_bootstrap(statistics.mean, np.arange(400) % 2, seed=0)
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.451, 0.549), abs=0.004)


def test_few_records_have_the_interval_of_the_t_distribution() -> None:
    # 2.365 · s / sqrt(8) for 8 numbers; the plain percentile interval would be 0.78 of that.
    sample = np.random.default_rng(0).normal(size=8)
    found = weighted_bootstrap(statistics.mean, sample, seed=0, draws=4000)
    half = 2.365 * sample.std(ddof=1) / math.sqrt(8)
    assert 0.93 < (found.high - found.low) / 2 / half < 1.07


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for seed in range(200):
        found = weighted_bootstrap(statistics.mean, rng.normal(size=15), seed=seed, draws=400)
        covered += found.low <= 0 <= found.high
    assert covered >= 180  # 95 % of 200 are 190, standard deviation 3


def test_one_record_cannot_say_its_uncertainty() -> None:
    assert bootstrap(np.mean, np.array([3.0]), seed=0) == Estimate.unbounded(3.0)


def test_nothing_says_nothing() -> None:
    assert not weighted_bootstrap(statistics.difference_of_means, np.ones(3), np.empty(0), seed=0).known
    assert not bootstrap(np.mean, np.empty(0), seed=0).known


def test_what_is_not_a_number_is_unknown_and_what_is_infinite_stays() -> None:
    assert not weighted_bootstrap(statistics.mean, np.array([1.0, math.nan]), seed=0).known
    assert weighted_bootstrap(statistics.mean, np.array([math.inf, math.inf]), seed=0) == Estimate.exact(math.inf)
    found = weighted_bootstrap(statistics.mean, np.array([1.0, math.inf, 1.0, 1.0]), seed=0)
    assert found == Estimate(math.inf, 1.0, math.inf)


def test_resamples_that_cannot_be_said_leave_the_interval_open() -> None:
    def share_of_first(sample: NDArray[np.float64]) -> float:
        return math.nan if not sample.any() else 1.0

    assert bootstrap(share_of_first, np.array([0.0, 1.0]), seed=0) == Estimate.unbounded(1.0)


def test_the_seed_decides() -> None:
    sample = np.arange(30.0)
    assert bootstrap(np.mean, sample, seed=1) == bootstrap(np.mean, sample, seed=1)
    assert bootstrap(np.mean, sample, seed=1) != bootstrap(np.mean, sample, seed=2)


def test_paired_samples_are_drawn_together() -> None:
    first = np.arange(50.0)
    found = weighted_bootstrap(statistics.difference_of_means, first + 0.25, first, seed=0, paired=True)
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))
    alone = weighted_bootstrap(statistics.difference_of_means, first + 0.25, first, seed=0)
    assert alone.high - alone.low > 5


def test_paired_samples_have_as_many_records_each() -> None:
    with pytest.raises(ValueError, match=r"not \[2, 3\]"):
        bootstrap(np.mean, np.ones(2), np.ones(3), seed=0, paired=True)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12), st.integers(0, 100))
def test_an_interval_holds_its_value(numbers: list[float], seed: int) -> None:
    found = weighted_bootstrap(statistics.mean, np.array(numbers), seed=seed, draws=50)
    assert found.low <= found.value <= found.high


def test_a_statistic_of_the_sample_itself() -> None:
    half: WeightedStatistic = statistics.quantile(0.5)
    assert evaluate(half, np.array([5.0, 1.0, 9.0, 7.0])) == 5.0
    assert evaluate(statistics.quantile(1.0), np.array([5.0, 1.0])) == 5.0
    assert math.isnan(evaluate(half, np.empty(0)))
