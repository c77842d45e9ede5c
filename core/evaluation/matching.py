"""Which holdout records to compare the forget set with.

A holdout with another mix of classes or lengths than the forget set can be told from it by any model, even one that
saw neither. So every forget record gets the same number of holdout records of its own kind, each used once. Within a
kind chance decides, by a seed.

Source: k-to-one matching of controls, without replacement, as in case-control studies. Cost: sorting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MOST_PER_RECORD = 10
ENOUGH = 0.8
"""Share of the forget records that must find a match."""

_GIVEN_UP = 0.05
"""Share of the matched forget records that may go without for the sake of more matches for all others."""

_LENGTH_RATIO = 1.5
"""Lengths in one band differ by less than this factor."""

By = Literal["class", "length"]


@dataclass(frozen=True, slots=True)
class Matching:
    """The forget records that found a match, and the holdout records that match them."""

    by: By
    forget: NDArray[np.integer]
    """Indices into the forget set, rising."""

    holdout: NDArray[np.integer]
    """Indices into the holdout, rising; as many for each matched forget record."""

    share: float
    """Share of the forget records that found a match; 0 for an empty forget set."""

    @property
    def enough(self) -> bool:
        """Whether the holdout can speak for the forget set."""
        return self.share >= ENOUGH

    def as_dict(self) -> dict[str, str | int | float]:
        """The contract's ``matching`` block."""
        return {"by": self.by, "matched_records": len(self.holdout), "matched_share": self.share}


def match_by_class(forget: NDArray[np.integer], holdout: NDArray[np.integer], *, seed: int) -> Matching:
    """Match classes, (n,) and (m,): a forget record of class c gets holdout records of class c."""
    return _match("class", forget, holdout, seed)


def match_by_length(forget: NDArray[np.integer], holdout: NDArray[np.integer], *, seed: int) -> Matching:
    """Match lengths in tokens, (n,) and (m,): lengths of one band differ by less than a half."""
    return _match("length", length_bands(forget), length_bands(holdout), seed)


def length_bands(lengths: NDArray[np.integer]) -> NDArray[np.integer]:
    """The band of each length, in steps of a factor 1.5: 1 | 2 | 3 | 4, 5 | 6, 7 | 8 … 11 | …, and below 1."""
    return np.where(lengths < 1, -1, np.floor(np.log(np.maximum(lengths, 1)) / np.log(_LENGTH_RATIO))).astype(np.int64)


def _match(by: By, forget: NDArray[np.integer], holdout: NDArray[np.integer], seed: int) -> Matching:
    rng = np.random.default_rng(seed)
    there, wanted = _members(holdout, rng), _members(forget, rng)
    nothing = np.empty(0, dtype=np.int64)
    kinds = [(rows, there.get(kind, nothing)) for kind, rows in wanted.items()]
    each = _per_record([(len(rows), len(others)) for rows, others in kinds])
    found = [min(len(rows), len(others) // each) for rows, others in kinds]
    matched = np.concatenate([nothing, *(rows[:n] for (rows, _), n in zip(kinds, found, strict=True))])
    chosen = np.concatenate([nothing, *(others[: n * each] for (_, others), n in zip(kinds, found, strict=True))])
    share = len(matched) / len(forget) if len(forget) else 0.0
    return Matching(by, np.sort(matched), np.sort(chosen), share)


def _members(kinds: NDArray[np.integer], rng: np.random.Generator) -> dict[int, NDArray[np.integer]]:
    """The indices of each kind, in an order of chance."""
    order = rng.permutation(len(kinds))
    return {int(kind): order[kinds[order] == kind] for kind in np.unique(kinds)}


def _per_record(kinds: Sequence[tuple[int, int]]) -> int:
    """The most matches a record, at most ten, that leave hardly any without; (forget, holdout) records of each kind."""

    def matched(each: int) -> int:
        return sum(min(wanted, there // each) for wanted, there in kinds)

    least = (1 - _GIVEN_UP) * matched(1)
    return max(each for each in range(1, MOST_PER_RECORD + 1) if each == 1 or matched(each) >= least)
