"""ROUGE-L: how much of the right answer a generated one contains, in order.

The longest common subsequence of both, as a share of the right answer (recall), of the generated one (precision), or
their harmonic mean (F1). Direction: as on the matched holdout for the forget set, unchanged on retain. A weak witness:
it falls when answers are merely reworded or broken, so it should decide nothing by itself.

Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries". Sequences may hold words or tokens; words
are taken without stemming. Cost: generation is what costs; the comparison takes microseconds.
"""

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RougeL:
    """Shares of a longest common subsequence; all nan when the right answer is empty."""

    recall: float
    precision: float
    f1: float


def rouge_l(answer: Sequence[Hashable], reference: Sequence[Hashable]) -> RougeL:
    """Compare a generated answer with the right one, the reference; an empty answer scores 0."""
    if not reference:
        return RougeL(math.nan, math.nan, math.nan)
    common = common_length(answer, reference)
    precision = common / len(answer) if answer else 0.0
    return RougeL(common / len(reference), precision, 2 * common / (len(answer) + len(reference)))


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; in any script that puts spaces between words."""
    return re.findall(r"\w+", text.lower())


def common_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence.

    The rows of the usual table as bits of one integer (Allison and Dix 1986): a set bit where the length rises.
    """
    places: dict[Hashable, int] = {}
    for place, item in enumerate(second):
        places[item] = places.get(item, 0) | 1 << place
    row = 0
    for item in first:
        either = row | places.get(item, 0)
        row = either & ((either - (row << 1 | 1)) ^ either)
    return row.bit_count()
