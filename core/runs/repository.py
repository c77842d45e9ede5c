"""All SQL about runs, their step ledgers and their events."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from core.access.sandboxes import in_sandbox
from core.deletions import lifecycle as deletion_states
from core.deletions.deadlines import NO_DEADLINE
from core.deletions.tables import DeletionRecord, DeletionRequest, DeletionTarget
from core.holds.repository import model_held
from core.platform.leases import Lease, LeaseLost
from core.platform.paging import Page, Slice, keyset, page_of
from core.registry.tables import Model, ModelVersion
from core.runs.errors import RunNotFound
from core.runs.lifecycle import ACTIVE, Mode, Status
from core.runs.tables import Run, RunEvent, RunRecord, RunScore, RunStep
from core.unlearning.job import KILLED

REQUEUED = "requeued"
"""Type of the event of a run that goes back to the queue; its ``code`` says why."""
RESUMED = "resumed"
"""Type of the event of an attempt that goes on from a checkpoint: ``attempt``, and after which ``step``."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Due, pending work on a model under one policy choice.

    ``oldest``: when the first of it was asked for; ``due_at``: by when the first of it takes its turn; ``held``:
    whether a legal hold covers the model.
    """

    workspace_id: str
    model_id: str
    policy: str | None
    oldest: datetime
    due_at: datetime
    held: bool


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What a list of runs is narrowed to: runs that unlearn, unless ``mode`` says otherwise."""

    status: str | None = None
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    mode: Mode = Mode.UNLEARN
    model_id: str | None = None


class Runs:
    """Runs of any workspace; the caller names the workspace where it matters."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def waiting(self, *, limit: int) -> Sequence[Waiting]:
        """Models with pending targets that are not held and no active run, the first deadline first; no sandbox's."""
        busy = exists().where(
            Run.model_id == DeletionTarget.model_id,
            Run.mode == Mode.UNLEARN,
            Run.status.in_(ACTIVE),
            ~in_sandbox(Run.workspace_id),
        )
        held = and_(DeletionRequest.hold_until.is_not(None), DeletionRequest.hold_until > func.now())
        on_hold = model_held().label("held")
        oldest = func.min(DeletionRequest.created_at)
        due_at = func.min(func.coalesce(DeletionRequest.due_at, DeletionRequest.created_at + NO_DEADLINE))
        statement = (
            select(
                DeletionRequest.workspace_id, DeletionTarget.model_id, DeletionRequest.policy, oldest, due_at, on_hold
            )
            .join(DeletionRequest, DeletionRequest.id == DeletionTarget.request_id)
            .join(Model, Model.id == DeletionTarget.model_id)
            .where(
                DeletionTarget.status == deletion_states.Status.PENDING,
                DeletionRequest.status.in_(deletion_states.OPEN),
                ~held,
                ~busy,
                ~in_sandbox(DeletionRequest.workspace_id),
            )
            .group_by(DeletionRequest.workspace_id, DeletionTarget.model_id, DeletionRequest.policy, Model.id)
            .order_by(due_at, oldest)
            .limit(limit)
        )
        return [Waiting(*row) for row in self._tx.execute(statement)]

    def add(self, run: Run) -> None:
        """Insert it. ``IntegrityError`` when the model has an active run already."""
        self._tx.add(run)
        self._tx.flush()

    def set_records(self, run_id: str, record_ids: Collection[str]) -> None:
        """Put these in the place of the records that the run is about, in two statements."""
        self._tx.execute(delete(RunRecord).where(RunRecord.run_id == run_id))
        wanted = bindparam(None, sorted(record_ids), ARRAY(String))
        ids = select(literal(run_id), func.unnest(wanted))
        self._tx.execute(insert(RunRecord).from_select(["run_id", "record_id"], ids))

    def records(self, run_id: str) -> Sequence[str]:
        """Ids of the records that an assessment is about or a run was to forget, in order."""
        statement = select(RunRecord.record_id).where(RunRecord.run_id == run_id)
        return self._tx.scalars(statement.order_by(RunRecord.record_id)).all()

    def get_for(self, workspace_id: str, run_id: str) -> Run:
        """Raises ``RunNotFound``, also for another workspace's run."""
        found = self._tx.scalar(select(Run).where(Run.id == run_id, Run.workspace_id == workspace_id))
        if found is None:
            raise RunNotFound(run_id)
        return found

    def get(self, run_id: str) -> Run:
        """Raises ``RunNotFound``."""
        found = self._tx.get(Run, run_id)
        if found is None:
            raise RunNotFound(run_id)
        return found

    def lock(self, run_id: str) -> Run:
        """Lock the row and read it as it is now. Raises ``RunNotFound``."""
        statement = select(Run).where(Run.id == run_id).with_for_update()
        found = self._tx.scalar(statement.execution_options(populate_existing=True))
        if found is None:
            raise RunNotFound(run_id)
        return found

    def any_queued(self) -> bool:
        """Whether some run waits for a worker."""
        waits = exists().where(Run.status == Status.QUEUED, ~in_sandbox(Run.workspace_id))
        return bool(self._tx.scalar(select(waits)))

    def next_queued(self, run_id: str | None, *, sandbox: bool = False) -> Run | None:
        """Lock a queued run that nobody else is taking: the one named, or the first to be due.

        Workers find no sandbox's run, and the sandbox no other.
        """
        statement = (
            select(Run)
            .where(Run.status == Status.QUEUED, in_sandbox(Run.workspace_id) == sandbox)
            .order_by(Run.due_at, Run.id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )
        return self._tx.scalar(statement if run_id is None else statement.where(Run.id == run_id))

    def grant(self, run: Run, *, owner: str, token: str, ttl_s: float) -> None:
        """Lease a locked run until ``ttl_s`` from now, on the database's clock."""
        run.lease_owner, run.lease_token, run.lease_until = owner, token, self._deadline(ttl_s)

    def held(self, lease: Lease) -> Run:
        """Lock the run under a lease that still holds, on the database's clock. Raises ``LeaseLost``."""
        statement = (
            select(Run)
            .where(Run.id == lease.row_id, Run.lease_token == lease.token, Run.lease_until > func.clock_timestamp())
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        found = self._tx.scalar(statement)
        if found is None:
            raise LeaseLost(lease.row_id)
        return found

    def next_expired(self, *, sandbox: bool = False) -> Run | None:
        """Lock the run whose lease ended longest ago, if any; one that somebody is writing to is left out.

        In a sandbox that is a run that is to be moved on, or that somebody wants cancelled.
        """
        over = Run.lease_until < func.now()
        if sandbox:
            over = or_(over, Run.cancel_requested_at.is_not(None))
        statement = (
            select(Run)
            .where(Run.lease_until.is_not(None), over, in_sandbox(Run.workspace_id) == sandbox)
            .order_by(Run.lease_until)
            .limit(1)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )
        return self._tx.scalar(statement)

    def uncertified(self, *, limit: int) -> Sequence[str]:
        """Runs that have ended with a result or a failure and have no certificate or report, longest waiting first.

        A sandbox's never get one.
        """
        statement = (
            select(Run.id)
            .where(Run.mode == "unlearn", Run.status.in_(("succeeded", "failed")), Run.certified_at.is_(None))
            .where(~in_sandbox(Run.workspace_id))
            .order_by(Run.finished_at)
            .limit(limit)
        )
        return self._tx.scalars(statement).all()

    def published_ids(self, workspace_id: str | None) -> Sequence[str]:
        """Runs that have published a version, of one workspace or of all but sandboxes, in order of id."""
        statement = select(Run.id).where(Run.mode == "unlearn", Run.published_version.is_not(None))
        statement = statement.where(~in_sandbox(Run.workspace_id))
        if workspace_id is not None:
            statement = statement.where(Run.workspace_id == workspace_id)
        return self._tx.scalars(statement.order_by(Run.id)).all()

    def extend(self, run: Run, ttl_s: float) -> None:
        """Let the lease last until ``ttl_s`` from now."""
        run.lease_until = self._deadline(ttl_s)

    def release(self, run: Run) -> None:
        """End the lease."""
        run.lease_owner = run.lease_token = run.lease_until = None

    def keep_scores(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what was measured of each forget record, in place of what an attempt before wrote."""
        self._tx.execute(delete(RunScore).where(RunScore.run_id == run_id))
        if rows:
            values = [{"run_id": run_id, "record_id": str(row["record_id"]), "row": dict(row)} for row in rows]
            self._tx.execute(insert(RunScore), values)

    def scores(self, run_id: str, *, after: str | None, limit: int) -> Sequence[RunScore]:
        """Scores of the run's forget records whose ids come behind ``after``, by record id."""
        wanted = select(RunScore).where(RunScore.run_id == run_id)
        if after is not None:
            wanted = wanted.where(RunScore.record_id > after)
        return self._tx.scalars(wanted.order_by(RunScore.record_id).limit(limit)).all()

    def published_since_training(self, model_id: str) -> Sequence[Run]:
        """Runs whose versions follow the model's last registered one, in order of version."""
        trained = select(func.coalesce(func.max(ModelVersion.version), 0)).where(
            ModelVersion.model_id == model_id, ModelVersion.run_id.is_(None)
        )
        statement = select(Run).where(Run.model_id == model_id, Run.published_version > trained.scalar_subquery())
        return self._tx.scalars(statement.order_by(Run.published_version)).all()

    def drop_old_scores(self) -> int:
        """Delete the scores of single records once the run's own policy no longer lets them be re-checked; how many."""
        old = select(Run.id).where(Run.finished_at.is_not(None), ~_may_be_rechecked())
        done = self._tx.execute(delete(RunScore).where(RunScore.run_id.in_(old)))
        return done.rowcount  # type: ignore[attr-defined]

    def forgotten_earlier(self, model_id: str, *, days: int, limit: int) -> Mapping[str, str]:
        """Records that runs before have forgotten for good from the model and that may still be read: id → run.

        May be read: for ``days`` after the run has ended, and for as long as the policy said under which it ran. At
        most ``limit``: a sample that stays the same from call to call.
        """
        forgot = (
            select(DeletionRecord.record_id, func.max(Run.id))
            .join(DeletionTarget, DeletionTarget.request_id == DeletionRecord.request_id)
            .join(Run, Run.id == DeletionTarget.run_id)
            .join(Model, and_(Model.id == Run.model_id, Model.dataset_id == DeletionRecord.dataset_id))
            .where(
                DeletionTarget.model_id == model_id,
                DeletionTarget.status == deletion_states.Status.COMPLETED,
                Run.published_version.is_not(None),
                Run.finished_at > func.now() - func.make_interval(0, 0, 0, days),
                _may_be_rechecked(),
            )
            .group_by(DeletionRecord.record_id)
            .order_by(func.md5(DeletionRecord.record_id))
            .limit(limit)
        )
        return dict(self._tx.execute(forgot).all())

    def add_steps(self, run_id: str, attempt: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append to the step ledger; a step that is there already stays as it is."""
        values = [{"run_id": run_id, "attempt": attempt, "step": int(row["step"]), "row": dict(row)} for row in rows]
        self._tx.execute(insert(RunStep).on_conflict_do_nothing(), values)

    def steps(self, run_id: str, attempt: int, *, after: int, limit: int) -> Sequence[RunStep]:
        """Steps of one attempt behind ``after``, in order."""
        statement = (
            select(RunStep)
            .where(RunStep.run_id == run_id, RunStep.attempt == attempt, RunStep.step > after)
            .order_by(RunStep.step)
            .limit(limit)
        )
        return self._tx.scalars(statement).all()

    def all_steps(self, run_id: str, attempt: int) -> Sequence[Mapping[str, Any]]:
        """Every row of one attempt's ledger, in order."""
        statement = select(RunStep.row).where(RunStep.run_id == run_id, RunStep.attempt == attempt)
        return self._tx.scalars(statement.order_by(RunStep.step)).all()

    def add_event(
        self, run: Run, kind: str, detail: Mapping[str, Any], at: datetime, *, status: str | None = None
    ) -> None:
        """One line of the timeline, at ``status`` or the run's. The run must be locked: the next number is ours."""
        last = select(func.max(RunEvent.sequence)).where(RunEvent.run_id == run.id).scalar_subquery()
        number = self._tx.scalar(select(func.coalesce(last, literal(0)))) or 0
        event = RunEvent(
            run_id=run.id, sequence=number + 1, type=kind, status=status or run.status, detail=dict(detail), at=at
        )
        self._tx.add(event)
        self._tx.flush()

    def kills(self, run_id: str) -> int:
        """How many attempts ended because their computing process was killed, by the kernel most likely."""
        code = RunEvent.detail["code"].as_string()
        found = select(func.count()).where(RunEvent.run_id == run_id, RunEvent.type == REQUEUED, code == KILLED)
        return int(self._tx.scalar(found) or 0)

    def resumed_step(self, run_id: str, attempt: int) -> int | None:
        """After which step that attempt went on from a checkpoint; None when it began at the beginning."""
        attempts = RunEvent.detail["attempt"].as_integer()
        statement = select(RunEvent.detail["step"].as_integer()).where(
            RunEvent.run_id == run_id, RunEvent.type == RESUMED, attempts == attempt
        )
        return self._tx.scalar(statement)

    def events(self, run_id: str, *, after: int) -> Sequence[RunEvent]:
        """The timeline behind number ``after``, in order."""
        statement = select(RunEvent).where(RunEvent.run_id == run_id, RunEvent.sequence > after)
        return self._tx.scalars(statement.order_by(RunEvent.sequence)).all()

    def requests_of(self, run_ids: Collection[str]) -> Mapping[str, Sequence[str]]:
        """For each run the requests that it was planned for, as its first event keeps them."""
        first = self.first_details(run_ids)
        return {run_id: tuple(detail.get("deletion_request_ids", ())) for run_id, detail in first.items()}

    def traceparents(self, run_id: str) -> Sequence[str]:
        """The traces in which its requests were accepted, as far as those were traced."""
        requests = select(DeletionTarget.request_id).where(DeletionTarget.run_id == run_id)
        traced = DeletionRequest.traceparent.is_not(None) & DeletionRequest.id.in_(requests)
        found = self._tx.scalars(select(DeletionRequest.traceparent).where(traced).order_by(DeletionRequest.id))
        return [parent for parent in found if parent is not None]

    def first_details(self, run_ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """For each run what its first event says about how it came to be."""
        statement = select(RunEvent.run_id, RunEvent.detail).where(
            RunEvent.run_id.in_(list(run_ids)), RunEvent.sequence == 1
        )
        return dict(self._tx.execute(statement).all())

    def model_names(self, runs: Sequence[Run]) -> Mapping[str, str]:
        """Names of the runs' models by id."""
        ids = {run.model_id for run in runs}
        return dict(self._tx.execute(select(Model.id, Model.name).where(Model.id.in_(ids))).all())

    def by_ids(self, run_ids: Collection[str]) -> Mapping[str, Run]:
        """Those of the runs that exist, by id."""
        rows = self._tx.scalars(select(Run).where(Run.id.in_(list(run_ids)))).all()
        return {run.id: run for run in rows}

    def published(self, run_ids: Collection[str]) -> Mapping[str, ModelVersion]:
        """The versions that the runs published, by run."""
        rows = self._tx.scalars(select(ModelVersion).where(ModelVersion.run_id.in_(list(run_ids)))).all()
        return {str(version.run_id): version for version in rows}

    def page(self, workspace_id: str, wanted: RunFilter, page: Page) -> Slice[Run]:
        """One page of the workspace's runs, newest first."""
        rows = self._tx.scalars(keyset(_matching(workspace_id, wanted), page, Run.created_at, Run.id)).all()
        return page_of(rows, page, lambda run: (run.created_at, run.id))

    def _deadline(self, ttl_s: float) -> datetime:
        # Read from the database: a worker's own clock may be wrong, and is never asked.
        now = self._tx.scalar(select(func.clock_timestamp()))
        assert isinstance(now, datetime)  # noqa: S101
        return now + timedelta(seconds=ttl_s)


def _may_be_rechecked() -> ColumnElement[bool]:
    """Whether the policy under which a run ran still lets the records that it forgot be read; silence means no."""
    days = func.coalesce(cast(Run.policy["recheck_days"].as_string(), Integer), 0)
    return Run.finished_at + func.make_interval(0, 0, 0, days) > func.now()


def _matching(workspace_id: str, wanted: RunFilter) -> Select[Run]:
    statement = select(Run).where(Run.workspace_id == workspace_id, Run.mode == wanted.mode)
    if wanted.status is not None:
        statement = statement.where(Run.status == wanted.status)
    if wanted.created_after is not None:
        statement = statement.where(Run.created_at > wanted.created_after)
    if wanted.created_before is not None:
        statement = statement.where(Run.created_at < wanted.created_before)
    if wanted.model_id is not None:
        statement = statement.where(Run.model_id == wanted.model_id)
    if wanted.model is not None:
        model = aliased(Model)
        named = and_(model.id == Run.model_id, or_(model.name == wanted.model, model.id == wanted.model))
        statement = statement.where(exists().where(named))
    return statement
