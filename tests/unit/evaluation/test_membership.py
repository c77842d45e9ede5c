"""The loss attack: 1 = the forget set is clearly a member."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from core.evaluation.membership import membership_auc


def test_lower_losses_are_members() -> None:
    assert membership_auc(np.array([0.1, 0.2]), np.array([1.0, 2.0])) == 1.0
    assert membership_auc(np.array([1.0, 2.0]), np.array([0.1, 0.2])) == 0.0


def test_counted_by_hand_with_a_tie() -> None:
    # pairs: 1<2 yes, 1<3 yes, 2=2 half, 2<3 yes -> 3.5 of 4
    assert membership_auc(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == 3.5 / 4


def test_only_ranks_count() -> None:
    rng = np.random.default_rng(0)
    forget, holdout = rng.random(20), rng.random(30)
    assert membership_auc(np.exp(9 * forget), np.exp(9 * holdout)) == membership_auc(forget, holdout)


def test_agrees_with_an_independent_implementation() -> None:
    rng = np.random.default_rng(1)
    forget, holdout = rng.integers(10, size=50) / 10, rng.integers(12, size=80) / 10
    expected = roc_auc_score([1] * 50 + [0] * 80, -np.concatenate([forget, holdout]))
    assert membership_auc(forget, holdout) == pytest.approx(expected)


def test_an_empty_side_cannot_be_measured() -> None:
    assert math.isnan(membership_auc(np.array([1.0]), np.empty(0)))
    assert math.isnan(membership_auc(np.empty(0), np.array([1.0])))
