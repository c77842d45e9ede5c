"""Removes what nobody needs any more: orphaned weights, checkpoints, old uploads, messages, answers and scores."""

from datetime import timedelta

import structlog
from sqlalchemy import Engine, delete

from core.access import idempotency
from core.opendsr import service as opendsr
from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.platform.objects import ObjectStore
from core.platform.outbox import OutboxRow
from core.platform.settings import LoopSettings
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
    for part in (_sweep_rows, _sweep_checkpoints, _sweep_uploads, _sweep_weights):
        try:
            part(engine, store, settings, clock)
        except Exception as error:
            failed.append(error)
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


def _sweep_checkpoints(engine: Engine, store: ObjectStore, _settings: LoopSettings, _clock: Clock) -> None:
    removed = 0
    for portion in sweeping.checkpoints(store):
        with transaction(engine) as tx:
            unwanted = sweeping.of_ended_runs(tx, portion)
        store.delete(unwanted)
        removed += len(unwanted)
    if removed:
        log.info("checkpoints_removed", objects=removed)


def _sweep_uploads(engine: Engine, store: ObjectStore, _settings: LoopSettings, clock: Clock) -> None:
    more = True
    while more:
        with transaction(engine) as tx:
            more = uploads.expire(tx, store, at=clock()) > 0


def _sweep_weights(engine: Engine, store: ObjectStore, settings: LoopSettings, clock: Clock) -> None:
    removed = 0
    for portion in sweeping.staged_before(store, clock() - timedelta(seconds=settings.orphan_age_s)):
        with transaction(engine) as tx:
            unwanted = sweeping.orphans(tx, portion)
        store.delete(unwanted)
        removed += len(unwanted)
    if removed:
        log.info("orphans_removed", objects=removed)
