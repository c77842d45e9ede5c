"""How far answers moved."""

import math

import numpy as np
import pytest

from core.evaluation.kl import kl_to_original


def log(*rows: list[float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows))


def test_derived_by_hand() -> None:
    # 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75) = 0.5 log(4 / 3)
    assert kl_to_original(log([0.5, 0.5]), log([0.25, 0.75])) == pytest.approx([0.5 * math.log(4 / 3)])


def test_the_same_answers_have_not_moved() -> None:
    rows = log([0.7, 0.2, 0.1], [1.0, 0.0, 0.0])
    assert kl_to_original(rows, rows).tolist() == [0.0, 0.0]


def test_what_the_original_excluded_adds_nothing_and_what_the_current_excludes_is_infinite() -> None:
    sure, open_minded = log([1.0, 0.0]), log([0.5, 0.5])
    assert kl_to_original(sure, open_minded) == pytest.approx([math.log(2)])
    assert kl_to_original(open_minded, sure).tolist() == [math.inf]
