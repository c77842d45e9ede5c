"""Who is compared with whom."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.evaluation.matching import length_bands, match_by_class, match_by_length


def test_each_record_gets_as_many_of_its_class() -> None:
    forget = np.array([0, 1, 1])
    holdout = np.array([1, 0, 1, 1, 0, 1, 2, 1])  # class 0: 2, class 1: 5 -> two each, four of the five ones
    found = match_by_class(forget, holdout, seed=0)
    assert sorted(holdout[found.holdout]) == [0, 0, 1, 1, 1, 1]
    assert found.as_dict() == {"by": "class", "matched_records": 6, "matched_share": 1.0}


def test_no_record_gets_more_than_ten() -> None:
    assert len(match_by_class(np.zeros(2, dtype=int), np.zeros(100, dtype=int), seed=0).holdout) == 20


def test_a_class_without_holdout_stays_unmatched() -> None:
    found = match_by_class(np.array([0, 0, 0, 1]), np.zeros(9, dtype=int), seed=0)
    assert found.forget.tolist() == [0, 1, 2]
    assert (len(found.holdout), found.share, found.enough) == (9, 0.75, False)


def test_a_class_with_too_few_matches_what_it_can() -> None:
    found = match_by_class(np.zeros(4, dtype=int), np.zeros(3, dtype=int), seed=0)
    assert (len(found.forget), found.holdout.tolist(), found.share) == (3, [0, 1, 2], 0.75)


def test_one_rare_record_does_not_cost_all_others_their_matches() -> None:
    # 39 records of class 0 with ten each, one of class 1 with a single match: 1 of 40 is given up.
    found = match_by_class(np.array([0] * 39 + [1]), np.array([0] * 390 + [1]), seed=0)
    assert (len(found.forget), len(found.holdout)) == (39, 390)


def test_nothing_matches_nothing() -> None:
    for forget, holdout in (([], [1]), ([1], []), ([], [])):
        found = match_by_class(np.array(forget, dtype=int), np.array(holdout, dtype=int), seed=0)
        assert (len(found.holdout), found.share, found.enough) == (0, 0.0, False)


def test_lengths_of_a_band_differ_by_less_than_a_half() -> None:
    bands = length_bands(np.arange(12))
    assert [list(np.flatnonzero(bands == band)) for band in np.unique(bands)] == [
        [0], [1], [2], [3], [4, 5], [6, 7], [8, 9, 10, 11],
    ]  # fmt: skip


def test_a_long_answer_is_not_compared_with_short_ones() -> None:
    found = match_by_length(np.array([10, 100]), np.array([9, 10, 11, 12]), seed=0)
    assert (found.by, found.forget.tolist(), found.share) == ("length", [0], 0.5)
    assert set(found.holdout) <= {0, 1, 2}


def test_the_seed_decides_who_is_taken() -> None:
    forget, holdout = np.zeros(3, dtype=int), np.zeros(100, dtype=int)
    first = match_by_class(forget, holdout, seed=1)
    assert np.array_equal(first.holdout, match_by_class(forget, holdout, seed=1).holdout)
    assert not np.array_equal(first.holdout, match_by_class(forget, holdout, seed=2).holdout)


classes = st.lists(st.integers(0, 3), max_size=40).map(lambda found: np.array(found, dtype=int))


@given(classes, classes, st.integers(0, 9))
def test_the_mix_of_the_match_is_that_of_the_matched(forget: np.ndarray, holdout: np.ndarray, seed: int) -> None:
    found = match_by_class(forget, holdout, seed=seed)
    each = len(found.holdout) // max(1, len(found.forget))
    assert len(set(found.holdout)) == len(found.holdout)
    assert np.array_equal(
        each * np.bincount(forget[found.forget], minlength=4), np.bincount(holdout[found.holdout], minlength=4)
    )
    alone = sum(min((forget == kind).sum(), (holdout == kind).sum()) for kind in range(4))
    assert len(found.forget) >= 0.95 * alone
