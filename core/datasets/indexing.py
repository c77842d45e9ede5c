"""Building the index of a data set's records: in the request if it is small, by a loop if it is not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.datasets.columns import ColumnMap
from core.datasets.editions import Editions
from core.datasets.errors import InvalidDataset
from core.datasets.fingerprint import fingerprint
from core.datasets.identities import IdentityDigests
from core.datasets.jsonlines import read_jsonlines
from core.datasets.lifecycle import DatasetStatus
from core.datasets.parquet import read_parquet
from core.datasets.reading import BadData, Batch, Layout, Reader
from core.datasets.records import DuplicateRecord, IndexRow, Records
from core.datasets.repository import Datasets
from core.datasets.tables import Dataset
from core.platform.database import database_now, transaction
from core.platform.errors import DependencyDown, DomainError, InvalidInput, Problem
from core.platform.objects import ObjectStore
from core.platform.objects.transfer import fetch
from core.platform.secrets import Keyring
from core.platform.workfolder import FILES, work_folder
from core.unlearning.job import StoredFile
from core.uploads import service as uploads
from core.uploads import sources
from core.uploads.errors import SourceNotFound
from core.uploads.sources import SourceFile

log = structlog.get_logger()

SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".ndjson"),
}
"""Which files of a folder belong to a data set; others (READMEs, licences) are left alone. One file may be called
anything."""

MAX_ROWS: Final = 50_000_000
READERS: Final[Mapping[str, Reader]] = {"parquet": read_parquet, "jsonl": read_jsonlines}

_LEASE_S: Final = 60.0
"""A data set whose indexing broke off (outage, killed process) is tried again after this."""


def index_next(
    engine: Engine,
    store: ObjectStore,
    keyring: Keyring,
    *,
    max_rows: int = MAX_ROWS,
    scratch: Path | None = None,
) -> bool:
    """Index one data set that waits for it; False when there is none. For a loop, of which there may be several.

    The index appears in one transaction or not at all. Wrong files end in status ``failed`` with the reasons; an
    outage leaves the data set waiting for a later turn. A folder of its own under ``scratch`` (unset: the system's
    temporary folder) takes one file at a time.
    """
    with transaction(engine) as tx:
        dataset_id = Datasets(tx).claim_indexing(lease_s=_LEASE_S)
    if dataset_id is None:
        return False
    with transaction(engine) as tx:
        dataset = Datasets(tx).lock_indexing(dataset_id)
        if dataset is not None:
            _index_or_fail(tx, store, keyring, dataset, max_rows=max_rows, scratch=scratch)
    return True


def data_files(source: sources.Source, data_format: str) -> tuple[SourceFile, ...]:
    """The files of a source that are of this format. Raises ``InvalidDataset`` when there are none."""
    if len(source.files) == 1:
        return source.files
    found = tuple(file for file in source.files if file.path.lower().endswith(SUFFIXES[data_format]))
    if not found:
        endings = ", ".join(SUFFIXES[data_format])
        why = f"There is no file that ends in {endings}."
        raise InvalidDataset(why, [Problem("", "no_files", why)])
    return found


def build_index(
    tx: Session,
    store: ObjectStore,
    keyring: Keyring,
    dataset: Dataset,
    files: Sequence[SourceFile],
    *,
    max_rows: int = MAX_ROWS,
    scratch: Path | None = None,
) -> None:
    """Read the files, insert their records and make the data set ``ready``.

    Raises ``InvalidDataset``, and then nothing has been inserted, or ``DependencyDown``.
    """
    with tx.begin_nested():
        index = _Index(tx, IdentityDigests(keyring), dataset, max_rows)
        for file in files:
            with work_folder(scratch, FILES) as folder:
                index.add(store, file, folder / "data")
        index.finish()


def _index_or_fail(
    tx: Session, store: ObjectStore, keyring: Keyring, dataset: Dataset, *, max_rows: int, scratch: Path | None
) -> None:
    try:
        files = data_files(sources.again(tx, store, dataset.source_uri), dataset.format)
        build_index(tx, store, keyring, dataset, files, max_rows=max_rows, scratch=scratch)
        log.info("dataset_indexed", dataset_id=dataset.id, counts=dataset.counts)
    except InvalidInput as error:
        _fail(tx, dataset, error)
    except DependencyDown as error:
        log.warning("dataset_index_postponed", dataset_id=dataset.id, code=error.code, detail=error.detail)


def _fail(tx: Session, dataset: Dataset, error: DomainError) -> None:
    problems = [{"pointer": p.pointer, "code": p.code, "detail": p.detail} for p in error.problems]
    dataset.status = DatasetStatus.FAILED
    dataset.error = {"code": error.code, "detail": error.detail, "errors": problems}
    dataset.index_lease_until = None
    uploads.release(tx, prefix_uri=dataset.source_uri, at=database_now(tx))
    tx.flush()
    log.warning("dataset_index_failed", dataset_id=dataset.id, code=error.code)


class _Index:
    """The index of one data set while it is being built."""

    def __init__(self, tx: Session, digests: IdentityDigests, dataset: Dataset, max_rows: int) -> None:
        self._tx = tx
        self._records = Records(tx)
        self._digests = digests
        self._dataset = dataset
        self._max_rows = max_rows
        self._layout = layout_of(dataset)
        self._read = READERS[dataset.format]
        self._files: list[tuple[StoredFile, int]] = []
        self._splits = Counter[str]()

    def add(self, store: ObjectStore, file: SourceFile, local: Path) -> None:
        """Fetch one file to ``local``, digest it and insert its records."""
        try:
            size, sha256 = fetch(store, file.uri, local)
        except FileNotFoundError:
            raise SourceNotFound(f"{file.path} vanished while it was being indexed.") from None
        if file.sha256 is not None and file.sha256 != sha256:
            raise _invalid(file.path, "digest_mismatch", "it is not the file that was uploaded")
        rows = 0
        try:
            for batch in self._read(local, self._layout):
                rows += self._insert(batch)
        except BadData as error:
            raise self._said(file.path, error) from None
        self._files.append((StoredFile(file.path, file.uri, size, sha256), rows))

    def finish(self) -> None:
        """Write down what the whole is. Raises ``InvalidDataset`` when there are no records."""
        if not self._splits:
            raise _invalid("", "no_records", "The files hold no records.")
        datasets, dataset = Datasets(self._tx), self._dataset
        datasets.add_files(dataset.id, self._files, identities_key_id=self._digests.key_id)
        dataset.counts = dict(self._splits)
        dataset.subjects = datasets.subjects(dataset.id)
        dataset.fingerprint = fingerprint([file for file, _ in self._files], dataset.columns)
        dataset.status = DatasetStatus.READY
        dataset.ready_at = ready_at = database_now(self._tx)
        dataset.index_lease_until = None
        Editions(self._tx).begin(dataset, records_removed=0, at=ready_at)

    def _insert(self, batch: Batch) -> int:
        rows = [
            IndexRow(record_id, subject_id, split, batch.first_row + i)
            for i, (record_id, subject_id, split) in enumerate(
                zip(batch.record_ids, batch.subject_ids, batch.splits, strict=True)
            )
        ]
        try:
            self._records.copy_in(self._dataset.id, len(self._files), rows)
        except DuplicateRecord as error:
            why = "the record id was there before"
            row = batch.first_row + error.position
            raise BadData("duplicate_record_id", why, key="record_id", row=row) from None
        for kind, values in batch.identities.items():
            named = ((record_id, value) for record_id, value in zip(batch.record_ids, values, strict=True) if value)
            digests = ((record_id, self._digests(kind, value)) for record_id, value in named)
            self._records.copy_identities(self._dataset.id, kind, self._digests.key_id, digests)
        self._splits.update(batch.splits)
        if self._splits.total() > self._max_rows:
            raise BadData("too_many_rows", f"the data set has more than {self._max_rows} rows")
        return len(rows)

    def _said(self, path: str, error: BadData) -> InvalidDataset:
        columns = {**self._layout.columns.keys, **self._layout.columns.content, **self._layout.columns.variants}
        where = "" if error.row is None else f", row {error.row}"
        where += "" if error.key is None else f", column {columns[error.key]!r}"
        pointer = "" if error.key is None else f"/columns/{error.key}"
        return _invalid(f"{path}{where}", error.code, error.why, pointer)


def layout_of(dataset: Dataset) -> Layout:
    """How the data set's files are to be understood."""
    columns = ColumnMap(**dataset.columns)
    height, width, channels = dataset.image_shape or (0, 0, 0)
    return Layout(columns, (height, width, channels) if dataset.image_shape else None)


def _invalid(where: str, code: str, why: str, pointer: str = "") -> InvalidDataset:
    detail = f"{where}: {why}." if where else why
    return InvalidDataset(detail, [Problem(pointer, code, detail)])
