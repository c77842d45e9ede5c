"""Which names force an outcome in a sandbox."""

import pytest

from core.deletions.stand_ins import word_of


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("fail@example.com", "fail"),
        ("  FAIL+tag@example.com ", "fail"),
        ("fail-17", "fail"),
        ("fail", "fail"),
        ("slow1", "slow"),
        ("review_2", "review"),
        ("notfound@example.com", "notfound"),
        ("failure@example.com", None),
        ("slower", None),
        ("a.fail@example.com", None),
        ("ana@fail.example", None),
        ("", None),
    ],
)
def test_a_word_counts_at_the_beginning_when_no_letter_follows(text: str, word: str | None) -> None:
    assert word_of(text) == word
