"""Min-K % and Min-K %++ of one record."""

import math

import numpy as np
import pytest

from core.evaluation.min_k import min_k
from core.evaluation.min_k_plus import min_k_plus


def test_the_least_likely_tokens_count() -> None:
    tokens = np.array([-1.0, -5.0, -2.0, -4.0, -3.0])
    assert min_k(tokens) == -4.5  # two of five
    assert min_k(tokens, share=0.2) == -5.0
    assert min_k(tokens, share=1.0) == -3.0


def test_at_least_one_token_counts() -> None:
    assert min_k(np.array([-0.5])) == -0.5


def test_no_token_says_nothing() -> None:
    assert math.isnan(min_k(np.empty(0)))
    assert math.isnan(min_k(np.array([-1.0, math.nan])))


def test_tokens_are_measured_against_what_was_possible() -> None:
    # (-1 + 2) / 0.5 = 2 and (-3 + 2) / 1 = -1: the lower one counts
    assert min_k_plus(np.array([-1.0, -3.0]), np.array([-2.0, -2.0]), np.array([0.5, 1.0])) == -1.0


def test_a_certain_token_scores_zero_up_to_rounding() -> None:
    assert min_k_plus(np.zeros(1), np.zeros(1), np.zeros(1)) == 0.0
    assert min_k_plus(np.array([-1e-8]), np.zeros(1), np.zeros(1)) == pytest.approx(-1e-4)
