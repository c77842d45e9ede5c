"""The numbers of a set, derived by hand."""

import math

import numpy as np
import pytest

from core.evaluation.scores import SetScores
from core.evaluation.summary import summarise


def two_records() -> SetScores:
    """A record of one answer with loss 1, and one of three answers with mean loss 3."""
    return SetScores(np.array([1.0, 3.0]), np.array([1, 0]), np.array([1, 3]))


def test_set_loss_is_the_mean_over_records() -> None:
    assert two_records().loss == 2.0


def test_accuracy_is_over_all_answers() -> None:
    assert two_records().accuracy == 0.25


def test_perplexity_weighs_answers_not_records() -> None:
    assert two_records().perplexity == pytest.approx(math.exp((1 + 3 * 3) / 4))


def test_perplexity_beyond_the_floats_is_infinite() -> None:
    assert SetScores(np.array([1e4]), np.array([0]), np.array([1])).perplexity == math.inf


def test_summary_says_none_for_what_cannot_be_measured() -> None:
    block = summarise(two_records(), two_records(), SetScores.empty(), perplexity=False)
    assert block["forget"] == {"loss": 2.0, "accuracy": 0.25}
    assert block["holdout"] == {"loss": None, "accuracy": None}
    assert block["membership_auc"] is None


def test_summary_of_a_language_model_has_perplexity() -> None:
    block = summarise(two_records(), two_records(), two_records(), perplexity=True)
    assert block["retain"] == {"loss": 2.0, "accuracy": 0.25, "perplexity": pytest.approx(math.exp(2.5))}
    assert block["membership_auc"] == 0.5
