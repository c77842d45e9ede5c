"""Taking erased records out of a data set's files: claim, write the files anew, check them, switch.

Whatever happens on the way, the present files stay as they are until one fenced transaction switches to the new ones.
Those lie under a key that holds the attempt, so no attempt ever meets what another has left.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.access import audit
from core.datasets.editions import Editions, Written, stored
from core.datasets.fingerprint import fingerprint
from core.datasets.indexing import READERS, layout_of
from core.datasets.reading import BadData, Layout
from core.datasets.records import Records
from core.datasets.rewriting import REWRITERS, Unwritable
from core.datasets.tables import Dataset, SupersededFile
from core.erasure.repository import Leaving, Rewrites
from core.holds.repository import Holds
from core.platform import outbox
from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.platform.leases import LeaseLost
from core.platform.objects import ObjectStore
from core.platform.objects.transfer import DigestMismatch, child_uri, digest_stream, fetch_verified, stored_digest
from core.platform.workfolder import FILES, work_folder
from core.policies.service import effective
from core.unlearning.job import StoredFile

log = structlog.get_logger()

FOLDER: Final = "datasets/"
MOST_NAMED: Final = 100
"""So many files are named in an event; the report has them all."""
_LEASE_S: Final = 300.0
_AGAIN_AFTER_S: Final = 3600.0
"""A data set that cannot be rewritten is tried again after this."""


class NotAsIndexed(Exception):
    """The rows of a file that was written are not those of the index."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What an attempt did."""

    dataset_id: str
    edition: int
    records: int
    files: int


@dataclass(frozen=True, slots=True)
class _Task:
    dataset_id: str
    workspace_id: str
    edition: int
    attempt: int
    format: str
    layout: Layout
    files: Mapping[int, StoredFile]
    """Those that lose rows."""
    gone: Mapping[int, Sequence[int]]
    """The rows that they lose, by their places now."""
    leaving: frozenset[str]


def rewrite_next(
    engine: Engine, store: ObjectStore, *, scratch: Path | None = None, clock: Clock = utc_now
) -> Rewritten | None:
    """Take the erased records out of one data set's files; None when there is none to be done.

    Any number of processes may do this at once. One that is killed leaves the data set to the next attempt, once its
    lease has run out. A file that is not as it was registered, or cannot be written, leaves everything as it was, and
    the data set says why. Raises ``DependencyDown``.
    """
    with transaction(engine) as tx:
        task = _claim(tx)
    if task is None:
        return None
    try:
        with work_folder(scratch, FILES) as folder:
            heart = _Heart(engine, task)
            written = [_write(engine, store, task, ordinal, folder / str(ordinal), heart) for ordinal in task.files]
        with transaction(engine) as tx:
            return _switch(tx, task, written, ours=store.root, at=clock())
    except LeaseLost:
        log.warning("rewrite_lost", dataset_id=task.dataset_id, attempt=task.attempt)
    except (FileNotFoundError, DigestMismatch, BadData, Unwritable, NotAsIndexed) as error:
        log.warning("rewrite_failed", dataset_id=task.dataset_id, kind=type(error).__name__)
        with transaction(engine) as tx:
            _postpone(tx, task, error)
    return None


def _claim(tx: Session) -> _Task | None:
    rewrites = Rewrites(tx)
    for dataset in rewrites.candidates():
        leaving = rewrites.removable(dataset.id)
        if leaving:
            rewrites.grant(dataset, _LEASE_S)
            return _task(tx, dataset, leaving)
    return None


def _task(tx: Session, dataset: Dataset, leaving: Sequence[Leaving]) -> _Task:
    editions, gone = Editions(tx), dict[int, list[int]]()
    places = editions.places(dataset.id)
    for one in leaving:
        gone.setdefault(one.file, []).append(places.row(one.file, one.row))
    present = {row.ordinal: stored(row) for row in editions.present(dataset.id)}
    return _Task(
        dataset_id=dataset.id,
        workspace_id=dataset.workspace_id,
        edition=dataset.edition,
        attempt=dataset.rewrite_attempt,
        format=dataset.format,
        layout=layout_of(dataset),
        files={ordinal: present[ordinal] for ordinal in gone},
        gone=gone,
        leaving=frozenset(one.record_id for one in leaving),
    )


class _Heart:
    """Keeps an attempt's lease alive, when asked often enough. Raises ``LeaseLost``."""

    def __init__(self, engine: Engine, task: _Task) -> None:
        self._engine, self._task = engine, task
        self._beaten_at = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._beaten_at > _LEASE_S / 3:
            with transaction(self._engine) as tx:
                Rewrites(tx).extend(self._task.dataset_id, self._task.attempt, _LEASE_S)
            self._beaten_at = time.monotonic()


def _write(engine: Engine, store: ObjectStore, task: _Task, ordinal: int, folder: Path, heart: _Heart) -> Written:
    """One file anew in the store, where nobody reads it yet."""
    old = task.files[ordinal]
    source = fetch_verified(store, old, folder / "old")
    target = folder / "new"
    rows = REWRITERS[task.format](source, target, task.gone[ordinal], heart)
    source.unlink()
    _check(engine, task, ordinal, target, heart)
    with target.open("rb") as stream:
        size, sha256 = digest_stream(stream)
    uri = child_uri(store.uri(f"{FOLDER}{task.dataset_id}/{task.edition + 1}-{task.attempt}/"), old.path)
    store.put_file(uri, target)
    if stored_digest(store, uri) != (size, sha256):
        raise DigestMismatch(f"{old.path} did not arrive in the object store as it was sent.")
    target.unlink()
    return Written(ordinal, StoredFile(old.path, uri, size, sha256), rows)


def _check(engine: Engine, task: _Task, ordinal: int, path: Path, heart: _Heart) -> None:
    """The file can be read to its end, and its rows are those of the index, less the ones that leave, in order."""
    batches = READERS[task.format](path, task.layout)
    found = (record_id for batch in batches for record_id in batch.record_ids)
    with transaction(engine) as tx:
        wanted = Records(tx).in_file(task.dataset_id, ordinal, but=task.leaving)
        for row, (ours, theirs) in enumerate(zip_longest(wanted, found)):
            if ours != theirs:
                raise NotAsIndexed
            if row % 65_536 == 0:
                heart()


def _switch(tx: Session, task: _Task, written: Sequence[Written], *, ours: str, at: datetime) -> Rewritten | None:
    """Make the new files the data set's, unless something has come between. Raises ``LeaseLost``."""
    Holds(tx).serialise(task.workspace_id)
    rewrites = Rewrites(tx)
    dataset = rewrites.held(task.dataset_id, task.attempt)
    dataset.rewrite_lease_until = None
    still = {one.record_id for one in rewrites.removable(dataset.id)}
    if Holds(tx).on_dataset(dataset.workspace_id, dataset.id) or not task.leaving <= still:
        log.info("rewrite_abandoned", dataset_id=dataset.id, attempt=task.attempt)
        return None
    before, dataset.rewrite_error = str(dataset.fingerprint), None
    superseded = Editions(tx).switch(
        dataset,
        written,
        task.leaving,
        fingerprint=_fingerprint(tx, dataset, written),
        ours=ours,
        keep_until=_keep_until(tx, dataset, task.leaving, at),
        at=at,
    )
    _tell(tx, dataset, superseded, before, len(task.leaving), at)
    return Rewritten(dataset.id, dataset.edition, len(task.leaving), len(written))


def _fingerprint(tx: Session, dataset: Dataset, written: Sequence[Written]) -> str:
    files = {row.ordinal: stored(row) for row in Editions(tx).present(dataset.id)}
    files |= {new.ordinal: new.file for new in written}
    return fingerprint(list(files.values()), dataset.columns)


def _keep_until(tx: Session, dataset: Dataset, leaving: Collection[str], at: datetime) -> datetime:
    rewrites = Rewrites(tx)
    names = rewrites.policies(dataset.id, leaving)
    days = max((effective(tx, dataset.workspace_id, name)[1].originals_days for name in names), default=0)
    return max(at + timedelta(days=days), rewrites.readable_until(dataset.id, leaving) or at)


def _tell(
    tx: Session, dataset: Dataset, superseded: Sequence[SupersededFile], before: str, records: int, at: datetime
) -> None:
    data: dict[str, Any] = {
        "id": dataset.id,
        "name": dataset.name,
        "edition": dataset.edition,
        "records_removed": records,
        "files": len(superseded),
        "fingerprint": dataset.fingerprint,
        "fingerprint_before": before,
        "sequence": dataset.edition,
    }
    _note(tx, dataset, "dataset.files_rewritten", data, at)
    theirs = [file.uri for file in superseded if not file.ours]
    if theirs:
        named = {"id": dataset.id, "name": dataset.name, "edition": dataset.edition - 1, "sequence": dataset.edition}
        _note(
            tx, dataset, "dataset.original_retained", {**named, "files": len(theirs), "uris": theirs[:MOST_NAMED]}, at
        )


def _note(tx: Session, dataset: Dataset, action: str, data: dict[str, Any], at: datetime) -> None:
    outbox.put_event(tx, workspace_id=dataset.workspace_id, type=action, data=data, at=at)
    audit.note(
        tx,
        workspace_id=dataset.workspace_id,
        actor="system",
        action=action,
        object_id=dataset.id,
        details={name: value for name, value in data.items() if name not in ("id", "sequence")},
        at=at,
    )


_WHY: Final[Mapping[type[Exception], tuple[str, str]]] = {
    FileNotFoundError: ("file_missing", "A file of the data set is no longer where it was registered."),
    DigestMismatch: ("digest_mismatch", "A file of the data set is no longer the one that was registered."),
    BadData: ("unreadable_file", "A file that was written anew cannot be read to its end."),
    Unwritable: ("unwritable_file", "A file of the data set cannot be written anew as it was."),
    NotAsIndexed: ("not_as_indexed", "The rows of a file are not those that were indexed."),
}


def _postpone(tx: Session, task: _Task, error: Exception) -> None:
    try:
        dataset = Rewrites(tx).held(task.dataset_id, task.attempt)
    except LeaseLost:
        return
    code, detail = _WHY[type(error)]
    dataset.rewrite_error = {"code": code, "detail": detail}
    tx.flush()
    Rewrites(tx).extend(task.dataset_id, task.attempt, _AGAIN_AFTER_S)
