"""All SQL about deletion requests, their records, targets and timelines."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVarTuple

from sqlalchemy import ARRAY, Select, String, and_, bindparam, case, exists, func, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased

from core.access.repository import lock
from core.datasets.lifecycle import COMES_FROM, RecordState
from core.datasets.tables import Dataset, Record
from core.deletions.commands import ListFilter, Waiter
from core.deletions.errors import ExternalIdTaken, NoVersion, RequestNotFound
from core.deletions.lifecycle import OPEN, Status
from core.deletions.tables import DeletionEvent, DeletionRecord, DeletionRequest, DeletionTarget
from core.holds.repository import LEGAL_HOLD, Holds, dataset_held, model_held
from core.platform import outbox
from core.platform.database import inserting, table_of
from core.platform.paging import Page, Slice, keyset, page_of
from core.registry.errors import ModelNotFound
from core.registry.tables import Model, ModelVersion

Columns = TypeVarTuple("Columns")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which states the requests have that cover one record."""

    record_id: str
    statuses: frozenset[str]


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that was trained on a data set; ``held``: a legal hold covers it."""

    id: str
    name: str
    policy: str | None
    held: bool


@dataclass(frozen=True, slots=True)
class Target:
    """A model that a new request wants the records unlearned from; ``waits_for``: why it is not taken yet."""

    model_id: str
    status: Status
    waits_for: str | None


@dataclass(frozen=True, slots=True)
class Belongings:
    """What hangs on a request by its targets: names of models, certificates, why it waits for a run, if it does."""

    models: tuple[str, ...] = ()
    certificate_ids: tuple[str, ...] = ()
    waits_for: str | None = None


class Requests:
    """Deletion requests of any workspace; the caller names the workspace where it matters."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def serialise(self, workspace_id: str) -> None:
        """Let one transaction at a time change which records of the workspace are to be erased.

        Whoever changes record states takes this first (after a run's row, if it holds one). So states that were read
        stay true, no rows need be locked one by one, and two such transactions can never wait for each other,
        whatever the order of their ids. Nor is a legal hold placed meanwhile. Released at the end of ``tx``.
        """
        Holds(self._tx).serialise(workspace_id)

    def submit_among_others(self, workspace_id: str) -> None:
        """The same for one who only adds a request: many may do so at a time, while nobody takes anything away.

        A record that two of them name is marked by both, which comes to the same; its rows are locked in one order
        (``Records.lock``). Whoever adds several in one ``tx`` calls ``serialise`` instead: after the first it holds the
        audit log, for which others wait that have locked their records. Nor may this be followed by ``serialise``.
        """
        Holds(self._tx).serialise_among_others(workspace_id)

    def line_up(self, workspace_id: str) -> None:
        """Wait for the others who call this, so that what they add is counted. Released at the end of ``tx``."""
        lock(self._tx, "room", workspace_id)

    def add(self, request: DeletionRequest) -> None:
        """Insert a request, without the session knowing of it: ``lock`` it before it is changed.

        Raises ``ExternalIdTaken`` when another request was given its external id meanwhile.
        """
        values = {column: getattr(request, name) for name, column in _COLUMNS}
        if self._tx.execute(_ADD, values).first() is None:
            raise ExternalIdTaken(self._tx.execute(_taken(request.workspace_id, request.external_id)).scalar_one())

    def cover(
        self,
        request_id: str,
        dataset_id: str,
        record_ids: Collection[str],
        targets: Sequence[Target],
        active: Sequence[str],
    ) -> None:
        """Insert what a request covers in one data set: records, and models to unlearn them from.

        Those of the records that are ``active`` await erasure from now on. All in one statement.
        """
        self._tx.execute(
            _COVER,
            {
                "request_id": request_id,
                "dataset_id": dataset_id,
                "record_ids": sorted(record_ids),
                "models": [target.model_id for target in targets],
                "statuses": [target.status for target in targets],
                "reasons": [target.waits_for for target in targets],
                "active": active,
                "from": list(COMES_FROM[RecordState.PENDING_ERASURE]),
                "to": RecordState.PENDING_ERASURE,
            },
        )

    def get_for(self, workspace_id: str, request_id: str) -> DeletionRequest:
        """Raises ``RequestNotFound``, also for another workspace's request."""
        found = self._tx.scalar(_ONE, {"id": request_id, "workspace_id": workspace_id})
        if found is None:
            raise RequestNotFound(request_id)
        return found

    def check_external_id(self, workspace_id: str, external_id: str) -> None:
        """Raises ``ExternalIdTaken`` when a request of the workspace has that external id."""
        taken = self._tx.scalar(_taken(workspace_id, external_id))
        if taken is not None:
            raise ExternalIdTaken(taken)

    def lock(self, request_ids: Collection[str]) -> Sequence[DeletionRequest]:
        """Lock the requests, in order of id, and read them as they are now."""
        statement = (
            select(DeletionRequest)
            .where(DeletionRequest.id.in_(list(request_ids)))
            .order_by(DeletionRequest.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return self._tx.scalars(statement).all()

    def targets(self, request_id: str) -> Sequence[DeletionTarget]:
        """The request's targets as they are now. Lock the request first to change them."""
        statement = (
            select(DeletionTarget)
            .where(DeletionTarget.request_id == request_id)
            .order_by(DeletionTarget.model_id)
            .execution_options(populate_existing=True)
        )
        return self._tx.scalars(statement).all()

    def to_warn(self, at: datetime, *, limit: int) -> Sequence[DeletionRequest]:
        """Lock open requests about whose deadline something is to be told by ``at``; those being changed wait."""
        row = DeletionRequest
        statement = (
            select(row)
            .where(row.warn_next_at <= at, row.status.in_(OPEN))
            .order_by(row.warn_next_at, row.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )
        return self._tx.scalars(statement).all()

    def mark_old_copies_purged(self, request_ids: Collection[str], at: datetime) -> Sequence[DeletionRequest]:
        """Note that no superseded copy holds the requests' records any more; the first time counts. Those marked."""
        marked = [request for request in self.lock(request_ids) if request.old_copies_purged_at is None]
        for request in marked:
            request.old_copies_purged_at = request.updated_at = at
            request.revision += 1
        return marked

    def of_run(self, run_id: str) -> Sequence[str]:
        """Ids of the requests whose targets a run has taken last, in order."""
        statement = select(DeletionTarget.request_id).where(DeletionTarget.run_id == run_id)
        return self._tx.scalars(statement.order_by(DeletionTarget.request_id)).all()

    def pending(self, model_id: str, policy: str | None) -> Sequence[str]:
        """The requests with a due, pending target on the model that ask for that policy; ids in order."""
        return self._tx.scalars(_pending(model_id, policy)).all()

    def take_pending(self, model_id: str, policy: str | None) -> Sequence[str]:
        """As ``pending``, and lock them.

        Requests that another transaction is changing (a cancellation) are left out: they are seen next time.
        """
        both = [DeletionRequest.__table__, DeletionTarget.__table__]
        return self._tx.scalars(_pending(model_id, policy).with_for_update(of=both, skip_locked=True)).all()

    def waiters(self, model_id: str, request_ids: Collection[str]) -> Sequence[Waiter]:
        """The requests as they wait for a run on the model: since when, until when, and for how many people."""
        people: dict[str, set[str]] = defaultdict(set)
        named = select(DeletionRecord.request_id, Record.subject_id).distinct()
        for request_id, subject in self._tx.execute(_to_forget(named, model_id, request_ids)):
            people[request_id].add(subject or f"? {request_id}")
        times = select(DeletionRequest.id, DeletionRequest.created_at, DeletionRequest.due_at).where(
            DeletionRequest.id.in_(list(request_ids))
        )
        return [Waiter(since, due, frozenset(people[row_id])) for row_id, since, due in self._tx.execute(times)]

    def note_waiting(self, model_id: str, policy: str | None, why: str) -> None:
        """Write on the pending targets why they are not taken yet. Waits for nobody: what is being changed is left."""
        stale = (
            select(DeletionTarget)
            .where(
                DeletionTarget.request_id.in_(_pending(model_id, policy)),
                DeletionTarget.model_id == model_id,
                DeletionTarget.waits_for.is_distinct_from(why),
            )
            .with_for_update(skip_locked=True)
        )
        for target in self._tx.scalars(stale):
            target.waits_for = why
        self._tx.flush()

    def next_held_idle(self) -> DeletionRequest | None:
        """A pending request that has no model to wait for and is not held, or no more, by caller or law."""
        row = DeletionRequest
        waits = exists().where(DeletionTarget.request_id == row.id, DeletionTarget.status.in_(OPEN))
        covered = exists().where(
            DeletionRecord.request_id == row.id, dataset_held(row.workspace_id, DeletionRecord.dataset_id)
        )
        on_model = exists().where(
            DeletionTarget.request_id == row.id, Model.id == DeletionTarget.model_id, model_held()
        )
        statement = (
            select(row)
            .where(row.status == Status.PENDING, or_(row.hold_until.is_(None), row.hold_until <= func.now()))
            .where(~waits, ~covered, ~on_model)
            .order_by(row.id)
            .limit(1)
        )
        return self._tx.scalar(statement)

    def forget_ids(self, model_id: str, request_ids: Collection[str]) -> Sequence[str]:
        """Records that the requests want forgotten and the model has seen: train records not yet unlearned from it."""
        statement = _to_forget(select(DeletionRecord.record_id).distinct(), model_id, request_ids)
        return self._tx.scalars(statement.order_by(DeletionRecord.record_id)).all()

    def unlearned(
        self, dataset_id: str, record_ids: Collection[str], model_ids: Collection[str]
    ) -> Mapping[str, frozenset[str]]:
        """For each of the records, from which of the models it has been unlearned already."""
        if not record_ids:
            return {}
        asked = {"dataset_id": dataset_id, "record_ids": list(record_ids), "model_ids": list(model_ids)}
        found: dict[str, set[str]] = defaultdict(set)
        for record_id, model_id in self._tx.execute(_UNLEARNED, asked):
            found[record_id].add(model_id)
        return {record_id: frozenset(models) for record_id, models in found.items()}

    def coverage(self, request_id: str) -> Mapping[str, Sequence[Coverage]]:
        """By data set, the request's records that await erasure, each with the states of all requests covering it."""
        mine, other = DeletionRecord, aliased(DeletionRecord)
        statement = (
            select(mine.dataset_id, mine.record_id, func.array_agg(DeletionRequest.status.distinct()))
            .join(Record, and_(Record.dataset_id == mine.dataset_id, Record.record_id == mine.record_id))
            .join(other, and_(other.dataset_id == mine.dataset_id, other.record_id == mine.record_id))
            .join(DeletionRequest, DeletionRequest.id == other.request_id)
            .where(mine.request_id == request_id, Record.state == "pending_erasure")
            .group_by(mine.dataset_id, mine.record_id)
            .order_by(mine.dataset_id, mine.record_id)
        )
        found: dict[str, list[Coverage]] = defaultdict(list)
        for dataset_id, record_id, statuses in self._tx.execute(statement):
            found[dataset_id].append(Coverage(record_id, frozenset(statuses)))
        return found

    def erasures(self, dataset_id: str) -> Mapping[str, int]:
        """How many of the data set's records are ``pending_erasure`` and ``erased``: requests cover all of those."""
        covered = select(DeletionRecord.record_id).where(DeletionRecord.dataset_id == dataset_id)
        statement = (
            select(Record.state, func.count())
            .where(Record.dataset_id == dataset_id, Record.record_id.in_(covered), Record.state != "active")
            .group_by(Record.state)
        )
        return {str(state): int(count) for state, count in self._tx.execute(statement)}

    def open_in(self, workspace_id: str, *, at_most: int) -> int:
        """How many of the workspace's requests have not ended; counted up to ``at_most``."""
        return self._tx.execute(_OPEN, {"workspace_id": workspace_id, "at_most": at_most}).scalar_one()

    def searchable(self, workspace_id: str) -> Sequence[Dataset]:
        """Every data set of the workspace, whatever its status, by id."""
        return self._tx.scalars(select(Dataset).where(Dataset.workspace_id == workspace_id).order_by(Dataset.id)).all()

    def learners(self, dataset_id: str) -> Sequence[Learner]:
        """The models that were trained on the data set and have a version to unlearn from, by id."""
        statement = select(*_LEARNER).where(Model.dataset_id == dataset_id, _HAS_VERSION).order_by(Model.id)
        return [Learner(*row) for row in self._tx.execute(statement)]

    def learner(self, workspace_id: str, name: str) -> tuple[Learner, Dataset]:
        """The model of this name and its data set. Raises ``ModelNotFound``, and ``NoVersion`` while it has none."""
        found = self._tx.execute(_BY_NAME, {"workspace_id": workspace_id, "name": name}).one_or_none()
        if found is None:
            raise ModelNotFound("There is no model of this name.")
        model_id, name, policy, held, has_version, dataset = found
        if not has_version:
            raise NoVersion
        return Learner(model_id, name, policy, held), dataset

    def add_event(
        self,
        request: DeletionRequest,
        kind: str,
        actor: str,
        detail: Mapping[str, Any],
        at: datetime,
        *,
        telling: Mapping[str, Any] | None = None,
    ) -> None:
        """One line of the timeline, numbered by the request's revision. ``telling``: an ``outbox.event_values``."""
        place = {"request_id": request.id, "sequence": request.revision, "status": request.status}
        line = {**place, "type": kind, "actor": actor, "detail": dict(detail), "at": at}
        self._tx.execute(_EVENT if telling is None else _TOLD_EVENT, {**line, **(telling or {})})

    def events(self, request_id: str) -> Sequence[DeletionEvent]:
        """The timeline in order."""
        statement = select(DeletionEvent).where(DeletionEvent.request_id == request_id)
        return self._tx.scalars(statement.order_by(DeletionEvent.sequence)).all()

    def kept_out(self, dataset_id: str, *, at: datetime) -> Sequence[str]:
        """Records that were out of every retain set at that moment: those of requests not cancelled by then."""
        latest = (
            select(DeletionEvent.status)
            .where(DeletionEvent.request_id == DeletionRequest.id, DeletionEvent.at <= at)
            .order_by(DeletionEvent.sequence.desc())
            .limit(1)
            .scalar_subquery()
        )
        statement = (
            select(DeletionRecord.record_id)
            .join(DeletionRequest, DeletionRequest.id == DeletionRecord.request_id)
            .where(DeletionRecord.dataset_id == dataset_id, DeletionRequest.created_at <= at)
            .where(latest != Status.CANCELLED)
            .distinct()
        )
        return self._tx.scalars(statement).all()

    def received(self, request_ids: Collection[str]) -> Sequence[tuple[str, datetime]]:
        """When each of the requests came in, in order of id."""
        statement = select(DeletionRequest.id, DeletionRequest.created_at).where(
            DeletionRequest.id.in_(list(request_ids))
        )
        return [(row.id, row.created_at) for row in self._tx.execute(statement.order_by(DeletionRequest.id))]

    def decisions(self, run_id: str, request_ids: Collection[str]) -> Sequence[DeletionEvent]:
        """What persons decided about a run that took these requests, as their timelines tell it, oldest first."""
        statement = select(DeletionEvent).where(
            DeletionEvent.request_id.in_(list(request_ids)),
            DeletionEvent.type.in_(("approved", "rejected")),
            DeletionEvent.detail["run_id"].as_string() == run_id,
        )
        return self._tx.scalars(statement.order_by(DeletionEvent.at, DeletionEvent.request_id)).all()

    def runs_of(self, request_ids: Collection[str]) -> Mapping[str, Sequence[str]]:
        """For each request the runs that took it, oldest first."""
        if not request_ids:
            return {}
        run_id = DeletionEvent.detail["run_id"].as_string()
        statement = (
            select(DeletionEvent.request_id, run_id)
            .where(DeletionEvent.request_id.in_(list(request_ids)), run_id.is_not(None))
            .order_by(DeletionEvent.request_id, DeletionEvent.sequence)
        )
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for request_id, run in self._tx.execute(statement):
            found[request_id][run] = None
        return {request_id: tuple(runs) for request_id, runs in found.items()}

    def belongings(self, request_ids: Collection[str]) -> Mapping[str, Belongings]:
        """For each request that has targets, what hangs on it by them."""
        found: dict[str, list[Any]] = defaultdict(list)
        self._tx.flush()  # of targets that have just been changed; the statement does not do so by itself
        for target in self._tx.execute(_OF_TARGETS, {"request_ids": list(request_ids)}):
            found[target.request_id].append(target)
        return {request_id: _together(targets) for request_id, targets in found.items()}

    def errors_of(self, request_ids: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
        """For each failed request, what its timeline says about why."""
        if not request_ids:
            return {}
        statement = (
            select(DeletionEvent.request_id, DeletionEvent.detail)
            .where(DeletionEvent.request_id.in_(list(request_ids)), DeletionEvent.status == Status.FAILED)
            .order_by(DeletionEvent.sequence)
        )
        return dict(self._tx.execute(statement).all())

    def page(self, workspace_id: str, wanted: ListFilter, page: Page) -> Slice[DeletionRequest]:
        """One page of the workspace's requests, newest first."""
        row = DeletionRequest
        rows = self._tx.scalars(keyset(_matching(workspace_id, wanted), page, row.created_at, row.id)).all()
        return page_of(rows, page, lambda found: (found.created_at, found.id))


def _taken(workspace_id: str, external_id: str | None) -> Select[str]:
    mine = DeletionRequest.workspace_id == workspace_id
    return select(DeletionRequest.id).where(mine, DeletionRequest.external_id == external_id)


_COLUMNS: Final = tuple((one.key, one.columns[0].name) for one in DeletionRequest.__mapper__.column_attrs)
_ADD: Final = (
    inserting(DeletionRequest)
    .on_conflict_do_nothing(index_elements=["workspace_id", "external_id"], index_where=text("external_id is not null"))
    .returning(DeletionRequest.__table__.c.id)
)
_EVENT: Final = inserting(DeletionEvent)
_TOLD_EVENT: Final = outbox.with_event(
    "insert into deletion_events (request_id, sequence, type, status, actor, detail, at)"
    " values (:request_id, :sequence, :type, :status, :actor, :detail, :at)"
).bindparams(bindparam("detail", type_=JSONB))
_COVER: Final = text(
    "with targets as (insert into deletion_targets (request_id, model_id, status, waits_for) select :request_id, t.*"
    " from unnest(cast(:models as text[]), cast(:statuses as text[]), cast(:reasons as text[])) t),"
    " marked as (update records set state = :to"
    " where dataset_id = :dataset_id and record_id = any(cast(:active as text[]))"
    " and state = any(cast(:from as text[])))"
    " insert into deletion_records (request_id, dataset_id, record_id)"
    " select :request_id, :dataset_id, unnest(cast(:record_ids as text[]))"
)
_ONE: Final = select(DeletionRequest).where(
    DeletionRequest.id == bindparam("id"), DeletionRequest.workspace_id == bindparam("workspace_id")
)
_OPEN: Final = select(func.count()).select_from(
    select(DeletionRequest.id)
    .where(DeletionRequest.workspace_id == bindparam("workspace_id"), DeletionRequest.status.in_(OPEN))
    .limit(bindparam("at_most"))
    .subquery()
)
_UNLEARNED: Final = (
    select(DeletionRecord.record_id, DeletionTarget.model_id)
    .join(DeletionTarget, DeletionTarget.request_id == DeletionRecord.request_id)
    .where(
        DeletionRecord.dataset_id == bindparam("dataset_id"),
        DeletionRecord.record_id == func.any(bindparam("record_ids", type_=ARRAY(String))),
        DeletionTarget.model_id == func.any(bindparam("model_ids", type_=ARRAY(String))),
        DeletionTarget.status == Status.COMPLETED,
    )
    .distinct()
)
_HAS_VERSION: Final = exists().where(ModelVersion.model_id == Model.id)
_LEARNER: Final = (Model.id, Model.name, Model.policy, model_held())
_BY_NAME: Final = (
    select(*_LEARNER, _HAS_VERSION, Dataset)
    .join(Dataset, Dataset.id == Model.dataset_id)
    .where(Model.workspace_id == bindparam("workspace_id"), Model.name == bindparam("name"))
)
_TARGETS: Final = table_of(DeletionTarget)
_MODELS: Final = table_of(Model)
_VERSIONS: Final = table_of(ModelVersion)
_OF_TARGETS: Final = (
    select(
        _TARGETS.c.request_id,
        _MODELS.c.name,
        case((_TARGETS.c.status == Status.PENDING, _TARGETS.c.waits_for)).label("reason"),
        _VERSIONS.c.certificate_id,
        _VERSIONS.c.created_at.label("certified_at"),
    )
    .join(_MODELS, _MODELS.c.id == _TARGETS.c.model_id)
    .outerjoin(_VERSIONS, _VERSIONS.c.run_id == _TARGETS.c.run_id)
    .where(_TARGETS.c.request_id == func.any(bindparam("request_ids", type_=ARRAY(String))))
    .order_by(_MODELS.c.name)
)


def _together(targets: Sequence[Any]) -> Belongings:
    """A hold is told rather than too few people, and these rather than a window."""
    certified = sorted((one.certified_at, one.certificate_id) for one in targets if one.certificate_id)
    reasons = {str(one.reason) for one in targets if one.reason}
    return Belongings(
        models=tuple(one.name for one in targets),
        certificate_ids=tuple(certificate_id for _, certificate_id in certified),
        waits_for=LEGAL_HOLD if LEGAL_HOLD in reasons else max(reasons, default=None),
    )


def _pending(model_id: str, policy: str | None) -> Select[str]:
    return (
        select(DeletionRequest.id)
        .join(DeletionTarget, DeletionTarget.request_id == DeletionRequest.id)
        .where(
            DeletionTarget.model_id == model_id,
            DeletionTarget.status == Status.PENDING,
            DeletionRequest.status.in_(OPEN),
            DeletionRequest.policy.is_not_distinct_from(policy),
            or_(DeletionRequest.hold_until.is_(None), DeletionRequest.hold_until <= func.now()),
        )
        .order_by(DeletionRequest.id)
    )


def _to_forget(statement: Select[*Columns], model_id: str, request_ids: Collection[str]) -> Select[*Columns]:
    """The statement about ``DeletionRecord`` and ``Record``, of what the model has to forget for the requests."""
    covered, done, target = DeletionRecord, aliased(DeletionRecord), aliased(DeletionTarget)
    unlearned = exists().where(
        done.dataset_id == covered.dataset_id,
        done.record_id == covered.record_id,
        target.request_id == done.request_id,
        target.model_id == model_id,
        target.status == Status.COMPLETED,
    )
    return (
        statement.select_from(covered)
        .join(Record, and_(Record.dataset_id == covered.dataset_id, Record.record_id == covered.record_id))
        .join(Model, Model.dataset_id == covered.dataset_id)
        .where(Model.id == model_id, covered.request_id.in_(list(request_ids)))
        .where(Record.split == "train", Record.last_edition.is_(None), ~unlearned)
    )


def _matching(workspace_id: str, wanted: ListFilter) -> Select[DeletionRequest]:
    row = DeletionRequest
    statement = select(row).where(row.workspace_id == workspace_id)
    if wanted.status is not None:
        statement = statement.where(row.status == wanted.status)
    if wanted.external_id is not None:
        statement = statement.where(row.external_id == wanted.external_id)
    if wanted.created_after is not None:
        statement = statement.where(row.created_at > wanted.created_after)
    if wanted.created_before is not None:
        statement = statement.where(row.created_at < wanted.created_before)
    if wanted.model is not None:
        named = and_(Model.id == DeletionTarget.model_id, or_(Model.name == wanted.model, Model.id == wanted.model))
        statement = statement.where(exists().where(DeletionTarget.request_id == row.id, named))
    if wanted.model_id is not None:
        mine = and_(DeletionTarget.request_id == row.id, DeletionTarget.model_id == wanted.model_id)
        statement = statement.where(exists().where(mine))
    if wanted.subject is not None:
        same = and_(Record.dataset_id == DeletionRecord.dataset_id, Record.record_id == DeletionRecord.record_id)
        statement = statement.where(
            exists().where(DeletionRecord.request_id == row.id, same, Record.subject_id == wanted.subject)
        )
    return statement
