"""The loss attack: 1 = the forget set is clearly a member."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from core.evaluation.membership import attack_auc, membership_auc, two_sided


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


def test_a_loss_that_is_not_a_number_cannot_be_ranked() -> None:
    assert math.isnan(membership_auc(np.array([math.nan, 1.0]), np.array([1.0])))


def test_infinite_losses_have_a_rank() -> None:
    assert membership_auc(np.array([math.inf, 1.0]), np.array([2.0, math.inf])) == (1 + 1 + 0.5 + 0) / 4


losses = st.lists(st.integers(0, 9), min_size=1, max_size=12).map(lambda found: np.array(found) / 2)


@given(losses, losses)
def test_changing_sides_turns_the_figure_round(forget: np.ndarray, holdout: np.ndarray) -> None:
    found = membership_auc(forget, holdout)
    assert 0 <= found <= 1
    assert membership_auc(holdout, forget) == pytest.approx(1 - found)
    assert two_sided(found) == pytest.approx(two_sided(1 - found))


def test_two_sided_is_never_below_a_half() -> None:
    assert two_sided(0.2) == two_sided(0.8) == 0.8
    assert math.isnan(two_sided(math.nan))


def test_scores_of_an_attack_are_higher_for_members() -> None:
    rng = np.random.default_rng(2)
    found = attack_auc(rng.normal(size=40), rng.normal(size=400), seed=0)
    assert found.low < 0.5 < found.high
    assert 0.1 < found.high - found.low < 0.3  # standard error of an AUC of 0.5: about sqrt(1/12/40 + 1/12/400) = 0.048
    member = attack_auc(rng.normal(size=40) + 3, rng.normal(size=400), seed=0)
    assert member.low > 0.9
