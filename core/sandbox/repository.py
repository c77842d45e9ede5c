"""The SQL on sandboxes as such: what waits in them, their time, and what is too old."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, DateTime, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from core.access.repository import lock
from core.access.sandboxes import in_sandbox
from core.datasets.tables import Dataset, Record, RecordIdentity
from core.deletions.deadlines import NO_DEADLINE
from core.deletions.lifecycle import OPEN, Status
from core.deletions.stand_ins import DATASET
from core.deletions.tables import DeletionEvent, DeletionRecord, DeletionRequest, DeletionTarget
from core.opendsr.tables import OpenDsrAttempt, OpenDsrCallback, OpenDsrEvent, OpenDsrRequest, OpenDsrWork
from core.platform.ids import first_id
from core.registry.tables import Model, ModelAlias, ModelFile, ModelVersion
from core.runs.repository import Waiting
from core.runs.tables import Run, RunEvent, RunRecord, RunScore, RunStep

_AT_ONCE: Final = 500


class Sandboxes:
    """All sandboxes as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def next_pending(self) -> tuple[str, Waiting] | None:
        """A request with a pending target whose hold is over: its id, and how it waits for the target's model."""
        row, target = DeletionRequest, DeletionTarget
        due = func.coalesce(row.due_at, row.created_at + NO_DEADLINE)
        statement = (
            select(row.id, row.workspace_id, target.model_id, row.policy, row.created_at, due)
            .join(target, target.request_id == row.id)
            .where(
                in_sandbox(row.workspace_id),
                target.status == Status.PENDING,
                row.status.in_(OPEN),
                or_(row.hold_until.is_(None), row.hold_until <= func.now()),
            )
            .order_by(row.id)
            .limit(1)
        )
        found = self._tx.execute(statement).one_or_none()
        return (found[0], Waiting(*found[1:], held=False)) if found is not None else None

    def age(self, workspace_id: str, by: timedelta) -> int:
        """Move every time of the sandbox's work ``by`` into the past; how many requests there are.

        Rows are locked in the order of everybody else who locks several kinds, and by one caller at a time.
        """
        lock(self._tx, "sandbox-clock", workspace_id)
        return {kind: self._age(kind.__table__, where, by) for kind, where in _dated(workspace_id)}[DeletionRequest]

    def _age(self, table: Any, where: ColumnElement[bool], by: timedelta) -> int:
        changes: dict[str, Any] = {
            column.name: column - by for column in table.columns if isinstance(column.type, DateTime)
        }
        if "revision" in table.columns:  # what a poller has seen is no longer what it would see
            changes["revision"] = table.c.revision + 1
        done = self._tx.execute(update(table).where(where).values(changes))
        return done.rowcount  # type: ignore[attr-defined]

    def remove_before(self, at: datetime) -> int:
        """Delete requests and runs made before a time, with all that hangs on them, a portion; how many.

        When they were made is read from their ids, which no clock moves.
        """
        requests = self._old(DeletionRequest, first_id("del", at))
        runs = [*self._old(Run, first_id("run", at)), *self._old(Run, first_id("hrd", at))]
        subjects = self._old(OpenDsrRequest, first_id("dsr", at))
        stand_ins = self._stand_ins(requests, runs)
        self._remove_opendsr(subjects, requests)
        for table in (DeletionEvent, DeletionTarget, DeletionRecord):
            self._delete(table, table.request_id.in_(requests))
        self._delete(DeletionRequest, DeletionRequest.id.in_(requests))
        self._remove_versions(runs)
        for table in (RunEvent, RunStep, RunScore, RunRecord):
            self._delete(table, table.run_id.in_(runs))
        self._delete(Run, Run.id.in_(runs))
        self._remove_stand_ins(stand_ins)
        return len(requests) + len(runs) + len(subjects)

    def _old(self, table: Any, before: str) -> Sequence[str]:
        kind = before.partition("_")[0] + "_"
        statement = select(table.id).where(
            in_sandbox(table.workspace_id), table.id < before, func.starts_with(table.id, kind)
        )
        return self._tx.scalars(statement.order_by(table.id).limit(_AT_ONCE)).all()

    def _remove_opendsr(self, subjects: Sequence[str], requests: Sequence[str]) -> None:
        callbacks = select(OpenDsrCallback.id).where(OpenDsrCallback.opendsr_id.in_(subjects))
        events = select(OpenDsrEvent.id).where(OpenDsrEvent.callback_id.in_(callbacks))
        self._delete(OpenDsrAttempt, OpenDsrAttempt.opendsr_event.in_(events))
        self._delete(OpenDsrEvent, OpenDsrEvent.callback_id.in_(callbacks))
        self._delete(OpenDsrCallback, OpenDsrCallback.opendsr_id.in_(subjects))
        work = or_(OpenDsrWork.opendsr_id.in_(subjects), OpenDsrWork.deletion_request_id.in_(requests))
        self._delete(OpenDsrWork, work)
        self._delete(OpenDsrRequest, OpenDsrRequest.id.in_(subjects))

    def _remove_versions(self, runs: Sequence[str]) -> None:
        pointed_at = exists().where(
            ModelAlias.model_id == ModelVersion.model_id, ModelAlias.version == ModelVersion.version
        )
        versions = self._tx.scalars(select(ModelVersion.id).where(ModelVersion.run_id.in_(runs), ~pointed_at)).all()
        self._delete(ModelFile, ModelFile.version_id.in_(versions))
        self._delete(ModelVersion, ModelVersion.id.in_(versions))

    def _stand_ins(self, requests: Sequence[str], runs: Sequence[str]) -> Sequence[str]:
        covered = select(DeletionRecord.record_id).where(DeletionRecord.request_id.in_(requests))
        looked_at = select(RunRecord.record_id).where(RunRecord.run_id.in_(runs))
        return self._tx.scalars(covered.union(looked_at)).all()

    def _remove_stand_ins(self, record_ids: Sequence[str]) -> None:
        datasets = select(Dataset.id).where(Dataset.name == DATASET, in_sandbox(Dataset.workspace_id))
        covered = exists().where(
            DeletionRecord.dataset_id == Record.dataset_id, DeletionRecord.record_id == Record.record_id
        )
        gone = self._tx.execute(
            delete(Record)
            .where(Record.dataset_id.in_(datasets), Record.record_id.in_(record_ids), ~covered)
            .returning(Record.dataset_id, Record.record_id)
            .execution_options(synchronize_session=False)
        ).all()
        places = tuple_(RecordIdentity.dataset_id, RecordIdentity.record_id)
        self._delete(RecordIdentity, places.in_([(row.dataset_id, row.record_id) for row in gone]))

    def _delete(self, table: Any, where: ColumnElement[bool]) -> None:
        self._tx.execute(delete(table).where(where).execution_options(synchronize_session=False))


def _dated(workspace_id: str) -> Sequence[tuple[Any, ColumnElement[bool]]]:
    """Whose rows have times, and which of them are the sandbox's, in the order of locks."""
    requests = select(DeletionRequest.id).where(DeletionRequest.workspace_id == workspace_id)
    runs = select(Run.id).where(Run.workspace_id == workspace_id)
    models = select(Model.id).where(Model.workspace_id == workspace_id)
    return (
        (Run, Run.workspace_id == workspace_id),
        (RunEvent, RunEvent.run_id.in_(runs)),
        (OpenDsrRequest, OpenDsrRequest.workspace_id == workspace_id),
        (DeletionRequest, DeletionRequest.workspace_id == workspace_id),
        (DeletionEvent, DeletionEvent.request_id.in_(requests)),
        (ModelVersion, ModelVersion.model_id.in_(models)),
    )
