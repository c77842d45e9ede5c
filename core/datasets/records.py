"""All SQL on records: which there are, what state they are in, whom they are about. Never their content."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
from sqlalchemy import ARRAY, CursorResult, Text, any_, literal, select, text, update
from sqlalchemy.orm import Session

from core.datasets.errors import RecordNotFound
from core.datasets.lifecycle import COMES_FROM, RecordState
from core.datasets.selection import ROWS_AT_ONCE, SelectionWriter
from core.datasets.tables import Record
from core.unlearning.job import Set


@dataclass(frozen=True, slots=True)
class RecordRef:
    """A record as others refer to it."""

    record_id: str
    split: str
    state: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """Which of the ids asked for exist. ``found`` in the order asked, each once; ``unknown``: positions asked."""

    found: tuple[RecordRef, ...]
    unknown: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SelectionCounts:
    """How many records a selection holds."""

    forget: int
    retain: int
    holdout: int
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One record to insert; ``row`` counts from 0 within its file."""

    record_id: str
    subject_id: str | None
    split: str
    row: int


_NONE: Mapping[str, str] = {}


class DuplicateRecord(Exception):
    """An id was there before. ``position`` in the rows that were being inserted."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class Records:
    """Records as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def get(self, dataset_id: str, record_id: str) -> Record:
        """Raises ``RecordNotFound``."""
        found = self._tx.get(Record, (dataset_id, record_id)) if "\0" not in record_id else None
        if found is None:
            raise RecordNotFound("The data set has no record of this id.")
        return found

    def resolve(self, dataset_id: str, record_ids: Sequence[str]) -> Resolution:
        """Look ids up, in one query however many they are."""
        wanted = {record_id: None for record_id in record_ids if "\0" not in record_id}
        rows = self._tx.execute(_refs(dataset_id).where(Record.record_id == any_(_texts(wanted))))
        refs = {row.record_id: RecordRef(row.record_id, row.split, row.state) for row in rows}
        return Resolution(
            tuple(refs[record_id] for record_id in wanted if record_id in refs),
            tuple(i for i, record_id in enumerate(record_ids) if record_id not in refs),
        )

    def of_subjects(self, dataset_id: str, subject_ids: Sequence[str]) -> tuple[RecordRef, ...]:
        """Every record about one of the subjects, by record id; unknown subjects have none."""
        wanted = [subject for subject in subject_ids if "\0" not in subject]
        rows = self._tx.execute(
            _refs(dataset_id).where(Record.subject_id == any_(_texts(wanted))).order_by(Record.record_id)
        )
        return tuple(RecordRef(row.record_id, row.split, row.state) for row in rows)

    def of_identities(self, dataset_id: str, identities: Sequence[tuple[str, bytes]]) -> tuple[RecordRef, ...]:
        """Every record with one of the (type, digest of ``identity_digest``) pairs, by record id."""
        rows = self._tx.execute(
            text(
                "select distinct r.record_id, r.split, r.state from record_identities i"
                " join unnest(cast(:types as text[]), cast(:digests as bytea[])) as wanted(type, digest)"
                " on i.type = wanted.type and i.digest = wanted.digest"
                " join records r on r.dataset_id = i.dataset_id and r.record_id = i.record_id"
                " where i.dataset_id = :dataset_id order by r.record_id"
            ),
            {
                "dataset_id": dataset_id,
                "types": [kind for kind, _ in identities],
                "digests": [digest for _, digest in identities],
            },
        )
        return tuple(RecordRef(row.record_id, row.split, row.state) for row in rows)

    def count(
        self, dataset_ids: Sequence[str], subject_ids: Sequence[str], identities: Sequence[tuple[str, bytes]]
    ) -> Mapping[str, int]:
        """How many records are about any of these, by state; in one statement, whether there are any or not."""
        rows = self._tx.execute(
            text(
                "select state, count(*) from ("
                " select dataset_id, record_id, state from records"
                " where dataset_id = any(cast(:datasets as text[])) and subject_id = any(cast(:subjects as text[]))"
                " union"
                " select r.dataset_id, r.record_id, r.state from record_identities i"
                " join unnest(cast(:types as text[]), cast(:digests as bytea[])) as wanted(type, digest)"
                " on i.type = wanted.type and i.digest = wanted.digest"
                " join records r on r.dataset_id = i.dataset_id and r.record_id = i.record_id"
                " where i.dataset_id = any(cast(:datasets as text[]))"
                ") found group by state"
            ),
            {
                "datasets": list(dataset_ids),
                "subjects": [subject for subject in subject_ids if "\0" not in subject],
                "types": [kind for kind, _ in identities],
                "digests": [digest for _, digest in identities],
            },
        )
        return {str(state): int(count) for state, count in rows}

    def lock(self, dataset_id: str, record_ids: Sequence[str]) -> tuple[RecordRef, ...]:
        """Lock the rows until the transaction ends, in one order for everybody; their states as they are now."""
        rows = self._tx.execute(
            _refs(dataset_id)
            .where(Record.record_id == any_(_texts(record_ids)))
            .order_by(Record.record_id)
            .with_for_update()
        )
        return tuple(RecordRef(row.record_id, row.split, row.state) for row in rows)

    def mark(self, dataset_id: str, record_ids: Sequence[str], state: RecordState | str) -> int:
        """Move records to ``state`` from where that is allowed, and leave the others; how many moved."""
        done = self._tx.execute(
            update(Record)
            .where(
                Record.dataset_id == dataset_id,
                Record.record_id == any_(_texts(record_ids)),
                Record.state.in_(COMES_FROM[RecordState(state)]),
            )
            .values(state=RecordState(state))
            .execution_options(synchronize_session=False)
        )
        return cast("CursorResult[Any]", done).rowcount

    def write_selection(
        self, dataset_id: str, forget_ids: Sequence[str], path: Path, *, earlier: Mapping[str, str] = _NONE
    ) -> SelectionCounts:
        """Write which rows are forgotten, retained, held out and looked at (``core.unlearning.job.SELECTION_FILE``).

        forget: those of ``forget_ids`` that were trained on. retain: active training records not among
        ``forget_ids``. holdout: active test records not among them. earlier: training records that are no longer
        active, each with the run that forgot it. Memory use does not grow with the data set.
        """
        wanted = frozenset(forget_ids)
        with SelectionWriter(path) as writer:
            counts = {kind: self._write_set(writer, kind, dataset_id, wanted, earlier) for kind in _SETS}
        return SelectionCounts(**counts)

    def rewrite_selection(
        self, dataset_id: str, forget_ids: Sequence[str], kept_out: Collection[str], path: Path
    ) -> SelectionCounts:
        """Write the selection as it was when just the records ``kept_out`` were not active, whatever they are now."""
        forget = frozenset(forget_ids)
        unused = forget | frozenset(kept_out)
        with SelectionWriter(path) as writer:

            def write(kind: Set, split: str, belongs: Callable[[str], bool]) -> int:
                statement = f"{_PLACES} r.split = %(split)s order by r.file, r.row"
                portions = self._portions(statement, {"dataset_id": dataset_id, "split": split})
                return sum(writer.write(kind, [row for row in portion if belongs(row[0])]) for portion in portions)

            return SelectionCounts(
                forget=write("forget", "train", forget.__contains__),
                holdout=write("holdout", "test", lambda record_id: record_id not in unused),
                retain=write("retain", "train", lambda record_id: record_id not in unused),
            )

    def _write_set(
        self,
        writer: SelectionWriter,
        kind: Set,
        dataset_id: str,
        forget_ids: frozenset[str],
        earlier: Mapping[str, str],
    ) -> int:
        named = {"forget": forget_ids, "earlier": earlier}.get(kind)
        statement = f"{_PLACES} {_SETS[kind]} order by r.file, r.row"
        portions = self._portions(statement, {"dataset_id": dataset_id, "ids": list(named or ())})
        if kind == "forget":
            return sum(writer.write(kind, rows) for rows in portions)
        runs = earlier if kind == "earlier" else _NONE
        # Left out here and not by a join: planned without statistics, as after indexing, that can be quadratic.
        return sum(writer.write(kind, [row for row in rows if row[0] not in forget_ids], runs) for rows in portions)

    def _portions(self, statement: str, parameters: Mapping[str, Any]) -> Iterator[Sequence[tuple[str, int, int]]]:
        """Rows straight from the driver, through a cursor on the server: over millions, anything more is seconds."""
        with self._driver().cursor("places") as cursor:
            cursor.execute(statement.encode(), parameters)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield cast("Sequence[tuple[str, int, int]]", rows)

    def copy_in(self, dataset_id: str, file: int, rows: Sequence[IndexRow]) -> None:
        """Insert records by COPY. Raises ``DuplicateRecord``, after which the transaction can only be rolled back."""
        columns = "dataset_id, record_id, subject_id, split, file, row"
        try:
            self._copy(
                f"copy records ({columns}) from stdin",
                ((dataset_id, row.record_id, row.subject_id, row.split, file, row.row) for row in rows),
            )
        except psycopg.errors.UniqueViolation as error:
            line = re.search(r"records\D*(\d+)", error.diag.context or "")  # "COPY records, line 17"
            raise DuplicateRecord(int(line[1]) - 1 if line else 0) from None

    def copy_identities(self, dataset_id: str, kind: str, digests: Iterable[tuple[str, bytes]]) -> None:
        """Insert keyed digests of identities by COPY, as (record id, digest)."""
        self._copy(
            "copy record_identities (dataset_id, type, digest, record_id) from stdin",
            ((dataset_id, kind, digest, record_id) for record_id, digest in digests),
        )

    def _copy(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._driver().cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def _driver(self) -> "psycopg.Connection[Any]":
        return cast("psycopg.Connection[Any]", self._tx.connection().connection.driver_connection)


_PLACES = "select r.record_id, r.file, r.row from records r where r.dataset_id = %(dataset_id)s and"
_SETS: Mapping[Set, str] = {
    "earlier": "r.split = 'train' and r.state <> 'active' and r.record_id = any(%(ids)s::text[])",
    "forget": "r.split = 'train' and r.record_id = any(%(ids)s::text[])",
    "holdout": "r.split = 'test' and r.state = 'active'",
    "retain": "r.split = 'train' and r.state = 'active'",
}
"""In the order in which the sets are written."""


def _refs(dataset_id: str) -> Any:
    return select(Record.record_id, Record.split, Record.state).where(Record.dataset_id == dataset_id)


def _texts(values: Iterable[str]) -> Any:
    return literal(list(values), ARRAY(Text))
