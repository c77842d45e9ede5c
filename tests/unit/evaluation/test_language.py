"""What a language model recites: exact memorisation, extraction strength, ROUGE-L."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.evaluation.exact_memorisation import exact_memorisation
from core.evaluation.extraction_strength import extraction_strength
from core.evaluation.rouge_l import RougeL, common_length, rouge_l, words


def matches(pattern: str) -> np.ndarray:
    return np.array([letter == "x" for letter in pattern], dtype=bool)


@pytest.mark.parametrize(
    ("pattern", "memorised", "strength"),
    [("xxxx", 1.0, 1.0), ("....", 0.0, 0.0), ("...x", 0.25, 0.25), ("xxx.", 0.75, 0.0), (".xx.xx", 4 / 6, 2 / 6)],
)
def test_counted_by_hand(pattern: str, memorised: float, strength: float) -> None:
    assert exact_memorisation(matches(pattern)) == memorised
    assert extraction_strength(matches(pattern)) == strength


def test_no_tokens_say_nothing() -> None:
    assert math.isnan(exact_memorisation(matches("")))
    assert math.isnan(extraction_strength(matches("")))


@given(st.text("x.", min_size=1, max_size=20))
def test_what_can_be_extracted_is_memorised(pattern: str) -> None:
    memorised, strength = exact_memorisation(matches(pattern)), extraction_strength(matches(pattern))
    assert 0 <= strength <= memorised <= 1
    assert (strength == 1) == (memorised == 1)


def test_words_in_order_count() -> None:
    found = rouge_l(words("The cat lay on a mat!"), words("The cat sat on the mat, today."))
    assert (found.recall, found.precision) == (4 / 7, 4 / 6)  # the cat … on … mat
    assert found.f1 == pytest.approx(2 * found.recall * found.precision / (found.recall + found.precision))


def test_tokens_serve_as_well_as_words() -> None:
    assert rouge_l([5, 7, 7], [7, 5, 7]).recall == 2 / 3


def test_an_empty_answer_scores_nothing() -> None:
    assert rouge_l([], ["yes"]) == RougeL(0.0, 0.0, 0.0)
    assert math.isnan(rouge_l(["yes"], []).recall)


def test_words_of_any_script() -> None:
    assert words("Čapek napsal R.U.R. 1920") == ["čapek", "napsal", "r", "u", "r", "1920"]


sequences = st.lists(st.integers(0, 3), max_size=12)


@given(sequences, sequences)
def test_bits_count_as_the_table_does(first: list[int], second: list[int]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, one in enumerate(first, 1):
        for j, other in enumerate(second, 1):
            same = table[i - 1, j - 1] + 1
            table[i, j] = same if one == other else max(table[i - 1, j], table[i, j - 1])
    assert common_length(first, second) == table[-1, -1]
