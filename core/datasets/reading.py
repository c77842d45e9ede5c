"""Reading a data set's files in bounded memory, with every check that a run would otherwise trip over later."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from core.datasets.columns import ColumnMap
from core.datasets.splits import TRAIN, split_of

LONGEST_ID: Final = 512


class BadData(Exception):
    """A file, or one row of it, is not what was declared. Says where; never what is there.

    ``key`` is our name of the column (``record_id``, ``identities/email`` …), None when the whole file is meant;
    rows count from 0, in JSON Lines without blank lines.
    """

    def __init__(self, code: str, why: str, *, key: str | None = None, row: int | None = None) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
        self.key = key
        self.row = row


@dataclass(frozen=True, slots=True)
class Layout:
    """How the files are to be understood."""

    columns: ColumnMap
    image_shape: tuple[int, int, int] | None = None

    @property
    def pixels(self) -> int | None:
        """Values of one raw image."""
        if self.image_shape is None:
            return None
        height, width, channels = self.image_shape
        return height * width * channels


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows, checked. Columns have one entry a row."""

    first_row: int
    record_ids: Sequence[str]
    subject_ids: Sequence[str | None]
    splits: Sequence[str]
    identities: Mapping[str, Sequence[str | None]]


class Reader(Protocol):
    """Reads one file of a format."""

    def __call__(self, path: Path, layout: Layout) -> Iterator[Batch]:
        """Every row in order. Raises ``BadData`` at the first thing that is wrong."""
        ...


def checked_batch(first_row: int, values: Mapping[str, Sequence[str | None]]) -> Batch:
    """A batch from the key columns as text, by our names. Raises ``BadData`` for ids and splits that cannot be used."""
    record_ids = [_record_id(value, first_row + i) for i, value in enumerate(values["record_id"])]
    size = len(record_ids)
    words = values.get("split")
    splits = [TRAIN] * size if words is None else [_split(word, first_row + i) for i, word in enumerate(words)]
    subjects = values.get("subject_id")
    return Batch(
        first_row,
        record_ids,
        [None] * size if subjects is None else [_subject(s, first_row + i) for i, s in enumerate(subjects)],
        splits,
        {key.partition("/")[2]: column for key, column in values.items() if key.startswith("identities/")},
    )


def _record_id(value: str | None, row: int) -> str:
    if value is None or value == "":
        raise BadData("null_record_id", "the record id is missing", key="record_id", row=row)
    return _text(value, row, "record_id")


def _subject(value: str | None, row: int) -> str | None:
    return _text(value, row, "subject_id") if value else None


def _split(word: str | None, row: int) -> str:
    split = None if word is None else split_of(word)
    if split is None:
        why = "the split is none of train, training, test, holdout, validation, eval"
        raise BadData("unknown_split", why, key="split", row=row)
    return split


def _text(value: str, row: int, key: str) -> str:
    if len(value) > LONGEST_ID:
        raise BadData("id_too_long", f"the id has more than {LONGEST_ID} characters", key=key, row=row)
    if "\0" in value or (not value.isascii() and not _encodable(value)):
        raise BadData("bad_id", "the id holds characters that cannot be stored", key=key, row=row)
    return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
