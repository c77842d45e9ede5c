"""All SQL on records: which there are, what state they are in, whom they are about. Never their content."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from sqlalchemy import ARRAY, CursorResult, Text, any_, bindparam, func, literal, select, text, update
from sqlalchemy.orm import Session

from core.datasets.editions import Editions
from core.datasets.errors import RecordNotFound
from core.datasets.lifecycle import COMES_FROM, RecordState
from core.datasets.selection import ROWS_AT_ONCE, SelectionWriter
from core.datasets.tables import Record, SupersededFile
from core.platform.database import table_of
from core.unlearning.job import Set


@dataclass(frozen=True, slots=True)
class RecordRef:
    """A record as others refer to it."""

    record_id: str
    split: str
    state: str
    in_files: bool = True
    """Whether the present files still hold it."""


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
        rows = self._tx.execute(_NAMED_REFS, {"dataset_id": dataset_id, "record_ids": list(wanted)})
        refs = {row.record_id: _ref(row) for row in rows}
        return Resolution(
            tuple(refs[record_id] for record_id in wanted if record_id in refs),
            tuple(i for i, record_id in enumerate(record_ids) if record_id not in refs),
        )

    def of_subjects(self, dataset_id: str, subject_ids: Sequence[str]) -> tuple[RecordRef, ...]:
        """Every record about one of the subjects, by record id; unknown subjects have none."""
        wanted = [subject for subject in subject_ids if "\0" not in subject]
        rows = self._tx.execute(
            _refs(dataset_id).where(_ROWS.c.subject_id == any_(_texts(wanted))).order_by(_ROWS.c.record_id)
        )
        return tuple(_ref(row) for row in rows)

    def of_identities(self, dataset_id: str, identities: Sequence[tuple[str, bytes]]) -> tuple[RecordRef, ...]:
        """Every record with one of the (type, digest of ``identity_digests``) pairs, by record id."""
        rows = self._tx.execute(
            text(
                "select distinct r.record_id, r.split, r.state, r.last_edition from record_identities i"
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
        return tuple(_ref(row) for row in rows)

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

    def lock(self, dataset_id: str, record_ids: Sequence[str]) -> None:
        """Lock the rows until the transaction ends, in one order for everybody."""
        self._tx.execute(_LOCK, {"dataset_id": dataset_id, "record_ids": list(record_ids)})

    def mark(self, dataset_id: str, record_ids: Sequence[str], state: RecordState | str) -> int:
        """Move records to ``state`` from where that is allowed, and leave the others; how many moved."""
        to = RecordState(state)
        place = {"of_dataset": dataset_id, "record_ids": list(record_ids)}
        done = self._tx.execute(_MARK, {**place, "states": list(COMES_FROM[to]), "to": to})
        return cast("CursorResult[Any]", done).rowcount

    def write_selection(
        self,
        dataset_id: str,
        forget_ids: Sequence[str],
        path: Path,
        *,
        earlier: Mapping[str, str] = _NONE,
        superseded: Sequence[SupersededFile] = (),
    ) -> SelectionCounts:
        """Write which rows are forgotten, retained, held out and looked at (``core.unlearning.job.SELECTION_FILE``).

        forget: those of ``forget_ids`` that were trained on. retain: active training records not among
        ``forget_ids``. holdout: active test records not among them. earlier: training records that are no longer
        active, each with the run that forgot it; of those that have left the present files, the ones that lie in
        ``superseded`` files, which the job names behind the present ones. Memory use does not grow with the data set.
        """
        wanted = frozenset(forget_ids)
        places = Editions(self._tx).places(dataset_id)
        with SelectionWriter(path) as writer:

            def write(
                kind: Set, ids: Collection[str] = (), but: Collection[str] = (), runs: Mapping[str, str] = _NONE
            ) -> int:
                portions = self._portions(_SETS[kind], {"dataset_id": dataset_id, "ids": list(ids)})
                # Left out here and not by a join: planned without statistics, as after indexing, that can be quadratic.
                kept = ([row for row in rows if row[0] not in but] if but else rows for rows in portions)
                return sum(writer.write(kind, places.moved(rows), runs) for rows in kept)

            def write_superseded(first: int) -> int:
                return sum(
                    writer.write("earlier", self._in_superseded(file, number, earlier, wanted), earlier)
                    for number, file in enumerate(superseded, first)
                )

            looked_at = write("earlier", earlier, wanted, earlier)
            looked_at += write_superseded(len(Editions(self._tx).present(dataset_id))) if superseded else 0
            return SelectionCounts(
                earlier=looked_at,
                forget=write("forget", wanted),
                holdout=write("holdout", but=wanted),
                retain=write("retain", but=wanted),
            )

    def _in_superseded(
        self, file: SupersededFile, number: int, ids: Mapping[str, str], but: Collection[str]
    ) -> Sequence[tuple[str, int, int]]:
        """Those of the records that have left with this file, as places in it; ``number``: what the job calls it."""
        places = Editions(self._tx).places(file.dataset_id, file.last_edition)
        rows = self._tx.execute(
            select(Record.record_id, Record.row)
            .where(
                Record.dataset_id == file.dataset_id,
                Record.record_id == any_(_texts(ids)),
                Record.file == file.ordinal,
                Record.last_edition == file.last_edition,
                Record.split == "train",
            )
            .order_by(Record.row)
        )
        return [(row.record_id, number, places.row(file.ordinal, row.row)) for row in rows if row.record_id not in but]

    def rewrite_selection(
        self, dataset_id: str, forget_ids: Sequence[str], kept_out: Collection[str], path: Path, *, edition: int = 1
    ) -> SelectionCounts:
        """Write the selection as it was when just the records ``kept_out`` were not active, whatever they are now.

        ``edition``: that of the files, of then.
        """
        forget = frozenset(forget_ids)
        unused = forget | frozenset(kept_out)
        places = Editions(self._tx).places(dataset_id, edition)
        with SelectionWriter(path) as writer:

            def write(kind: Set, split: str, belongs: Callable[[str], bool]) -> int:
                parameters = {"dataset_id": dataset_id, "split": split, "edition": edition}
                chosen = ([row for row in rows if belongs(row[0])] for rows in self._portions(_THEN, parameters))
                return sum(writer.write(kind, places.moved(rows)) for rows in chosen)

            return SelectionCounts(
                forget=write("forget", "train", forget.__contains__),
                holdout=write("holdout", "test", lambda record_id: record_id not in unused),
                retain=write("retain", "train", lambda record_id: record_id not in unused),
            )

    def in_file(self, dataset_id: str, ordinal: int, *, but: Collection[str] = ()) -> Iterator[str]:
        """Ids of the records of one file of the present edition, in order, without ``but``."""
        for rows in self._portions(_IN_FILE, {"dataset_id": dataset_id, "file": ordinal}):
            yield from (record_id for record_id, _, _ in rows if record_id not in but)

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

    def copy_identities(self, dataset_id: str, kind: str, key_id: str, digests: Iterable[tuple[str, bytes]]) -> None:
        """Insert digests of identities by COPY, as (record id, digest), all under one key."""
        self._copy(
            "copy record_identities (dataset_id, type, digest, record_id, key_id) from stdin",
            ((dataset_id, kind, digest, record_id, key_id) for record_id, digest in digests),
        )

    def add_identities(self, dataset_id: str, key_id: str, digests: Sequence[tuple[str, str, bytes]]) -> int:
        """Put digests beside those that are there, as (type, record id, digest); how many are new."""
        done = self._tx.execute(
            text(
                "insert into record_identities (dataset_id, type, digest, record_id, key_id)"
                " select :dataset_id, d.type, d.digest, d.record_id, :key_id from"
                " unnest(cast(:types as text[]), cast(:digests as bytea[]), cast(:records as text[]))"
                " as d(type, digest, record_id)"
                " on conflict (dataset_id, type, digest, record_id) do update set key_id = excluded.key_id"
                " where record_identities.key_id is distinct from excluded.key_id"
            ),
            {
                "dataset_id": dataset_id,
                "key_id": key_id,
                "types": [kind for kind, _, _ in digests],
                "records": [record_id for _, record_id, _ in digests],
                "digests": [digest for _, _, digest in digests],
            },
        )
        return cast("CursorResult[Any]", done).rowcount

    def remove_identities(self, dataset_id: str, *, but: str, limit: int) -> int:
        """Remove digests made under any other key than ``but``, up to ``limit``; how many there were."""
        done = self._tx.execute(
            text(
                "delete from record_identities where ctid = any(array(select ctid from record_identities"
                " where dataset_id = :dataset_id and key_id is distinct from :but limit :limit))"
            ),
            {"dataset_id": dataset_id, "but": but, "limit": limit},
        )
        return cast("CursorResult[Any]", done).rowcount

    def _copy(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._driver().cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def _driver(self) -> "psycopg.Connection[Any]":
        return cast("psycopg.Connection[Any]", self._tx.connection().connection.driver_connection)


_PLACES = "select r.record_id, r.file, r.row from records r where r.dataset_id = %(dataset_id)s"
_ORDER = "order by r.file, r.row"
_NAMED = "r.record_id = any(%(ids)s::text[])"
_PRESENT = f"{_PLACES} and r.last_edition is null"
_SETS: Mapping[Set, str] = {
    "earlier": f"{_PRESENT} and r.split = 'train' and r.state <> 'active' and {_NAMED} {_ORDER}",
    "forget": f"{_PRESENT} and r.split = 'train' and {_NAMED} {_ORDER}",
    "holdout": f"{_PLACES} and r.split = 'test' and r.state = 'active' {_ORDER}",
    "retain": f"{_PLACES} and r.split = 'train' and r.state = 'active' {_ORDER}",
}
_THEN = f"{_PLACES} and r.split = %(split)s and (r.last_edition is null or r.last_edition >= %(edition)s) {_ORDER}"
_IN_FILE = f"{_PRESENT} and r.file = %(file)s order by r.row"


_IDS: Final = any_(bindparam("record_ids", type_=ARRAY(Text)))
_ROWS: Final = table_of(Record)
_MARK: Final = (
    update(_ROWS)
    .where(
        _ROWS.c.dataset_id == bindparam("of_dataset"),
        _ROWS.c.record_id == _IDS,
        _ROWS.c.state == any_(bindparam("states", type_=ARRAY(Text))),
    )
    .values(state=bindparam("to"))
)


def _refs(dataset_id: Any) -> Any:
    columns = (_ROWS.c.record_id, _ROWS.c.split, _ROWS.c.state, _ROWS.c.last_edition)
    return select(*columns).where(_ROWS.c.dataset_id == dataset_id)


_NAMED_REFS: Final = _refs(bindparam("dataset_id")).where(_ROWS.c.record_id == _IDS)


_LOCK: Final = select(func.count()).select_from(
    select(Record.record_id)
    .where(Record.dataset_id == bindparam("dataset_id"), Record.record_id == _IDS)
    .order_by(Record.record_id)
    .with_for_update(key_share=True)
    .subquery()
)


def _ref(row: Any) -> RecordRef:
    return RecordRef(row.record_id, row.split, row.state, in_files=row.last_edition is None)


def _texts(values: Iterable[str]) -> Any:
    return literal(list(values), ARRAY(Text))
