"""The words of a split column."""

from typing import Final

TRAIN: Final = "train"
TEST: Final = "test"

_WORDS: Final = {
    "train": TRAIN,
    "training": TRAIN,
    "test": TEST,
    "holdout": TEST,
    "validation": TEST,
    "eval": TEST,
}


def split_of(word: str) -> str | None:
    """``train`` (what models were trained on) or ``test`` (held out); None for a word that means neither.

    ``train`` and ``training`` mean the one; ``test``, ``holdout``, ``validation`` and ``eval`` the other, in any case.
    """
    return _WORDS.get(word.strip().lower())
