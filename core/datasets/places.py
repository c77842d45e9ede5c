"""Where a record lies in one edition of a data set's files.

The index keeps the place in the first edition. Files keep their order and their rows' order, so in a later edition a
row has moved up by as many places as rows before it have left.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Places:
    """By file, the rows (in the first edition, in order) that an edition no longer has."""

    gone: Mapping[int, Sequence[int]]

    @classmethod
    def without(cls, places: Iterable[tuple[int, int]]) -> "Places":
        """An edition that lacks these (file, row) places, which come in order."""
        gone: dict[int, array[int]] = {}
        for file, row in places:
            gone.setdefault(file, array("q")).append(row)
        return cls(gone)

    def row(self, file: int, row: int) -> int:
        """The row at which that of the first edition lies now; it must not have left."""
        return row - bisect_left(self.gone.get(file, ()), row)

    def moved(self, rows: Sequence[tuple[str, int, int]]) -> Sequence[tuple[str, int, int]]:
        """(record id, file, row) triples of the first edition as they are in this one, in the same order."""
        if not self.gone:
            return rows
        return [(record_id, file, self.row(file, row)) for record_id, file, row in rows]


FIRST: Final = Places({})
"""The first edition: nothing has moved."""
