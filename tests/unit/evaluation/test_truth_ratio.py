"""Truth ratios: both means, and both ways of scoring."""

import math

import numpy as np
import pytest

from core.evaluation.truth_ratio import forget_truth_scores, log_truth_ratio, truth_share, utility_truth_scores

WRONG = np.log([0.1, 0.4])


def test_the_two_means_differ() -> None:
    right = math.log(0.5)
    assert math.exp(log_truth_ratio(right, WRONG)) == pytest.approx(0.2 / 0.5)  # sqrt(0.1 · 0.4) = 0.2
    assert math.exp(log_truth_ratio(right, WRONG, mean="arithmetic")) == pytest.approx(0.25 / 0.5)


def test_the_share_of_the_right_answer() -> None:
    assert truth_share(math.log(0.4)) == pytest.approx(0.5 / (0.5 + 0.2))
    assert truth_share(0.0) == 0.5


def test_on_the_forget_set_being_sure_either_way_scores_low() -> None:
    assert forget_truth_scores(np.log([0.4, 4.0, 1.0])) == pytest.approx([0.4, 0.25, 1.0])


def test_elsewhere_only_the_right_answer_scores() -> None:
    assert utility_truth_scores(np.log([0.4, 4.0, 1.0])) == pytest.approx([0.6, 0.0, 0.0])


def test_extreme_answers_neither_over_nor_underflow() -> None:
    extreme = np.array([log_truth_ratio(-5e4, np.array([-1.0])), log_truth_ratio(-1.0, np.array([-5e4]))])
    assert forget_truth_scores(extreme).tolist() == [0.0, 0.0]
    assert utility_truth_scores(extreme).tolist() == [0.0, 1.0]
    assert [truth_share(float(ratio)) for ratio in extreme] == [0.0, 1.0]


def test_without_wrong_answers_there_is_no_ratio() -> None:
    assert math.isnan(log_truth_ratio(-1.0, np.empty(0)))
