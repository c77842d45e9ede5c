"""Removes what nobody needs any more: orphaned files, checkpoints, old uploads, messages, answers and scores.

And what nobody may have any more: superseded copies of what has been erased (``core.erasure``).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal

import structlog
from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session

from core.access import idempotency
from core.erasure import leftovers, purging, traces
from core.erasure.repository import Purges
from core.opendsr import service as opendsr
from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.platform.objects import ObjectStore
from core.platform.outbox import OutboxRow
from core.platform.settings import LoopSettings
from core.registry.repository import Versions
from core.runs import sweeping
from core.runs.repository import Runs
from core.sandbox import service as sandbox
from core.uploads import service as uploads
from core.webhooks import messages

log = structlog.get_logger()

_SENT_KEPT_FOR = timedelta(days=7)


def turn(engine: Engine, store: ObjectStore, settings: LoopSettings, clock: Clock = utc_now) -> bool:
    """Sweep once through everything; False, for the next sweep can wait. A part that fails does not stop the others."""
    failed: list[Exception] = []
    parts = (
        _sweep_rows,
        _sweep_checkpoints,
        _sweep_uploads,
        _sweep_weights,
        _sweep_written_anew,
        _put_versions_out_of_use,
        _delete_versions,
        _delete_dataset_files,
    )
    for part in parts:
        try:
            part(engine, store, settings, clock)
        except Exception as error:
            failed.append(error)
    if not failed:
        _note_what_is_gone(engine, settings, clock)
    if failed:
        raise failed[0] if len(failed) == 1 else ExceptionGroup("sweeping failed", failed)
    return False


def _sweep_rows(engine: Engine, _store: ObjectStore, _settings: LoopSettings, clock: Clock) -> None:
    with transaction(engine) as tx:
        tx.execute(delete(OutboxRow).where(OutboxRow.sent_at < clock() - _SENT_KEPT_FOR))
        idempotency.expire(tx, at=clock())
        messages.expire(tx, at=clock())
        Runs(tx).drop_old_scores()
        opendsr.expire(tx, at=clock())
        sandbox.expire(tx, at=clock())


def _sweep_checkpoints(engine: Engine, store: ObjectStore, _settings: LoopSettings, clock: Clock) -> None:
    for portion in sweeping.checkpoints(store):
        with transaction(engine) as tx:
            _remove(tx, store, "checkpoints", sweeping.of_ended_runs(tx, portion), clock)


def _sweep_uploads(engine: Engine, store: ObjectStore, _settings: LoopSettings, clock: Clock) -> None:
    more = True
    while more:
        with transaction(engine) as tx:
            more = uploads.expire(tx, store, at=clock()) > 0


def _sweep_weights(engine: Engine, store: ObjectStore, settings: LoopSettings, clock: Clock) -> None:
    for portion in sweeping.staged_before(store, clock() - timedelta(seconds=settings.orphan_age_s)):
        with transaction(engine) as tx:
            _remove(tx, store, "weights", sweeping.orphans(tx, portion), clock)


def _remove(
    tx: Session,
    store: ObjectStore,
    kind: Literal["checkpoints", "weights"],
    unwanted: Mapping[str, Sequence[str]],
    clock: Clock,
) -> None:
    uris = [uri for found in unwanted.values() for uri in found]
    store.delete(uris)
    leftovers.note_removed(tx, kind, unwanted, clock())
    if uris:
        log.info("leftovers_removed", kind=kind, objects=len(uris))


def _sweep_written_anew(engine: Engine, store: ObjectStore, settings: LoopSettings, clock: Clock) -> None:
    for portion in leftovers.written_before(store, clock() - timedelta(seconds=settings.orphan_age_s)):
        with transaction(engine) as tx:
            unwanted = leftovers.abandoned(tx, portion)
        store.delete(unwanted)


def _put_versions_out_of_use(engine: Engine, _store: ObjectStore, _settings: LoopSettings, clock: Clock) -> None:
    with transaction(engine) as tx:
        model_ids = Versions(tx).unlearned_models()
    for model_id in model_ids:
        with transaction(engine) as tx:
            purged = purging.purge_model(tx, model_id=model_id, at=clock())
        if purged:
            log.info("versions_purged", model_id=model_id, versions=purged)


def _delete_versions(engine: Engine, store: ObjectStore, _settings: LoopSettings, clock: Clock) -> None:
    with transaction(engine) as tx:
        version_ids = Versions(tx).being_purged()
    for version_id in version_ids:
        with transaction(engine) as tx:
            purging.delete_files(tx, store, version_id=version_id, at=clock())


def _delete_dataset_files(engine: Engine, store: ObjectStore, _settings: LoopSettings, clock: Clock) -> None:
    with transaction(engine) as tx:
        due = Purges(tx).datasets_due(clock())
    for workspace_id, dataset_id in due:
        with transaction(engine) as tx:
            files = purging.purge_files(tx, store, workspace_id=workspace_id, dataset_id=dataset_id, at=clock())
        if files:
            log.info("dataset_files_purged", dataset_id=dataset_id, files=files)


def _note_what_is_gone(engine: Engine, settings: LoopSettings, clock: Clock) -> None:
    """Only after a sweep without failures: then nothing lies about any more of what ended ``orphan_age_s`` ago."""
    place: str | None = ""
    while place is not None:
        with transaction(engine) as tx:
            ended_before = clock() - timedelta(seconds=settings.orphan_age_s)
            place = traces.note_gone(tx, ended_before=ended_before, after=place, at=clock())
