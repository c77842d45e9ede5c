"""The records that look most like members."""

import math

import numpy as np

from core.evaluation.worst_k import most_like_members, percentiles


def test_highest_scores_first_and_nan_last() -> None:
    scores = np.array([0.1, math.nan, 0.9, 0.5, 0.9])
    assert most_like_members(scores, 3).tolist() == [2, 4, 3]
    assert most_like_members(scores).tolist() == [2, 4, 3, 0, 1]


def test_percentile_among_the_holdout() -> None:
    found = percentiles(np.array([0.0, 2.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.tolist() == [0.0, 1.5 / 4, 0.5, 1.0]


def test_nothing_to_compare_with() -> None:
    assert np.isnan(percentiles(np.array([1.0]), np.empty(0))).all()
    assert np.isnan(percentiles(np.array([math.nan]), np.array([1.0]))).all()
    assert most_like_members(np.empty(0)).tolist() == []
