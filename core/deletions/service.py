"""Use cases of deletion requests: submit, cancel, look at. What runs do to them is in ``progress``."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from core.access import audit
from core.access.sandboxes import is_sandbox
from core.datasets.repository import Records
from core.deletions import progress, terms
from core.deletions.commands import ItemResult, ListFilter, LookupResult, RequestView, SubmitDeletion
from core.deletions.deadlines import extended
from core.deletions.errors import (
    AlreadyExtended,
    DeadlineOver,
    NotExtendable,
    TooManyOpenRequests,
)
from core.deletions.lifecycle import FINAL, IllegalMove, Status, advance_target
from core.deletions.repository import Belongings, Learner, Requests, Target
from core.deletions.room import Room
from core.deletions.selection import Part, check_size, digests_of, find, searched
from core.deletions.tables import DeletionEvent, DeletionRequest
from core.holds.repository import LEGAL_HOLD, Holds
from core.platform.clock import rfc3339
from core.platform.errors import DomainError, IllegalTransition
from core.platform.ids import new_id
from core.platform.paging import Page, Slice
from core.platform.secrets import Keyring
from core.platform.tracing import traceparent
from core.policies import service as policies
from core.policies.body import Policy
from core.policies.regulations import in_force


def submit(
    tx: Session,
    *,
    workspace_id: str,
    actor: str,
    command: SubmitDeletion,
    keyring: Keyring,
    max_ids: int,
    at: datetime,
    room: Room | None = None,
) -> RequestView:
    """Accept a request: from the commit on, its records are in no later retain set. ``room`` None: for any number.

    A request about nobody known, or about records that no model holds, is completed at once. Raises ``EmptySelection``,
    ``TooManyIds``, ``TooManyOpenRequests``, ``ExternalIdTaken``, ``PolicyNotFound`` and whatever ``selection.find``
    and ``terms.clock`` raise.
    """
    _enter(tx, workspace_id, room)
    request, parts = _accept(tx, workspace_id, actor, command, keyring, max_ids, at)
    _note_submitted(tx, request, actor, at)
    return _view_of_new(tx, request, parts)


def submit_many(
    tx: Session,
    *,
    workspace_id: str,
    actor: str,
    commands: Sequence[SubmitDeletion],
    keyring: Keyring,
    max_ids: int,
    at: datetime,
    max_open: int | None = None,
) -> Sequence[ItemResult]:
    """Accept each request by itself; results in order. One that is refused leaves no trace and stops no other.

    ``TooManyOpenRequests`` is for the batch as a whole, and counts each of its items as one that will stay open.
    """
    Requests(tx).serialise(workspace_id)
    check_room(tx, workspace_id, max_open, adding=len(commands))
    accepted: list[DeletionRequest | DomainError] = []
    for command in commands:
        try:
            with tx.begin_nested():
                accepted.append(_accept(tx, workspace_id, actor, command, keyring, max_ids, at)[0])
        except DomainError as error:
            accepted.append(error)
    requests = [item for item in accepted if isinstance(item, DeletionRequest)]
    for request in requests:
        _note_submitted(tx, request, actor, at)
    views = {found.request.id: found for found in view(tx, requests)}
    return [
        ItemResult(error=item) if isinstance(item, DomainError) else ItemResult(view=views[item.id])
        for item in accepted
    ]


def _enter(tx: Session, workspace_id: str, room: Room | None) -> None:
    """Take the lock to submit one request: shared, unless it is in a sandbox, which invents the records."""
    requests = Requests(tx)
    if is_sandbox(workspace_id):
        requests.serialise(workspace_id)
    else:
        requests.submit_among_others(workspace_id)
    if room is not None:
        room.check(tx, workspace_id)


def check_room(tx: Session, workspace_id: str, max_open: int | None, *, adding: int = 1) -> None:
    """Raises ``TooManyOpenRequests`` unless so many more may be open in the workspace. None: any number may.

    For who adds several in one transaction, under ``Requests.serialise``; ``Room`` is for single ones.
    """
    if max_open is not None and Requests(tx).open_in(workspace_id, at_most=max_open) + adding > max_open:
        raise TooManyOpenRequests(max_open)


def cancel(tx: Session, *, workspace_id: str, request_id: str, actor: str, at: datetime) -> RequestView:
    """Withdraw a pending request: its records are free again unless another request covers them.

    Raises ``RequestNotFound``, or ``IllegalTransition`` once a run has begun or the request has ended.
    """
    requests = Requests(tx)
    requests.get_for(workspace_id, request_id)
    requests.serialise(workspace_id)
    (request,) = requests.lock([request_id])
    for target in requests.targets(request_id):
        if request.status == Status.PENDING and target.status == Status.PENDING:
            target.status = advance_target(Status(target.status), Status.CANCELLED, why="cancelled", at=at).after
    try:
        progress.enter(tx, request, Status.CANCELLED, kind="cancelled", actor=actor, detail={}, at=at)
    except IllegalMove as error:
        raise IllegalTransition(f"The request is {request.status}; only a pending request can be cancelled.") from error
    audit.note(
        tx, workspace_id=workspace_id, actor=actor, action="deletion_request.cancelled", object_id=request.id,
        details={"record_count": request.record_count}, at=at,
    )  # fmt: skip
    return view(tx, [request])[0]


def extend(tx: Session, *, workspace_id: str, request_id: str, reason: str, actor: str, at: datetime) -> RequestView:
    """Move the deadline of an open request by what its regulation allows, once; warnings count anew from ``at``.

    Raises ``RequestNotFound``, ``IllegalTransition`` once it has ended, ``AlreadyExtended``, ``NotExtendable``,
    ``DeadlineOver``.
    """
    requests = Requests(tx)
    requests.get_for(workspace_id, request_id)
    (request,) = requests.lock([request_id])
    policy = terms.policy_of(
        tx, workspace_id, request.policy, [target.model_id for target in requests.targets(request_id)]
    )
    before, due = request.due_at, _extended(request, policy, at)
    request.due_at, request.extended_at, request.extension_reason = due, at, reason
    terms.wind(request, policy, told_until=at)
    told = {"due_at": rfc3339(due), "due_at_before": rfc3339(before or due)}
    progress.remark(tx, request, kind="extended", actor=actor, detail={**told, "reason": reason}, told=told, at=at)
    audit.note(
        tx, workspace_id=workspace_id, actor=actor, action="deletion_request.extended", object_id=request.id,
        details=told, at=at,
    )  # fmt: skip
    return view(tx, [request])[0]


def _extended(request: DeletionRequest, policy: Policy, at: datetime) -> datetime:
    if request.status in FINAL:
        raise IllegalTransition(f"The request is {request.status}; only an open request can be extended.")
    if request.extended_at is not None:
        raise AlreadyExtended
    regulation = in_force(policy.regulations).get(request.regulation or "")
    if regulation is None or request.due_at is None:
        raise NotExtendable
    if at > request.due_at:
        raise DeadlineOver
    due = extended(request.received_at, request.due_at, regulation)
    if due is None:
        raise NotExtendable
    return due


def get(tx: Session, *, workspace_id: str, request_id: str) -> RequestView:
    """Raises ``RequestNotFound``."""
    return view(tx, [Requests(tx).get_for(workspace_id, request_id)])[0]


def look_up(
    tx: Session, *, workspace_id: str, actor: str, wanted: SubmitDeletion, keyring: Keyring, max_ids: int, at: datetime
) -> LookupResult:
    """Whether there are records about the people, before a request is made of it; noted in the audit log.

    The same statements run whether anybody is known or not, so that time tells little. Raises ``EmptySelection``,
    ``TooManyIds``, ``DatasetIndexing``, ``DatasetUnusable``.
    """
    check_size(wanted, max_ids)
    datasets = [dataset.id for dataset in searched(tx, workspace_id, wanted)]
    counts = Records(tx).count(datasets, wanted.subject_ids, digests_of(wanted, keyring))
    found = LookupResult(sum(counts.values()) - counts.get("erased", 0), counts.get("erased", 0))
    audit.note(
        tx, workspace_id=workspace_id, actor=actor, action="subject.looked_up", object_id=workspace_id,
        details={"asked": len(wanted.subject_ids) + len(wanted.identities), "record_count": found.record_count}, at=at,
    )  # fmt: skip
    return found


def timeline(tx: Session, *, workspace_id: str, request_id: str) -> Sequence[DeletionEvent]:
    """Everything that happened to the request, in order. Raises ``RequestNotFound``."""
    requests = Requests(tx)
    requests.get_for(workspace_id, request_id)
    return requests.events(request_id)


def search(tx: Session, *, workspace_id: str, wanted: ListFilter, page: Page) -> Slice[RequestView]:
    """One page of the workspace's requests, newest first."""
    found = Requests(tx).page(workspace_id, wanted, page)
    return Slice(tuple(view(tx, found.data)), found.next_cursor, found.has_more)


def view(tx: Session, requests: Sequence[DeletionRequest]) -> Sequence[RequestView]:
    """The requests with what belongs to them, in the same order and a fixed number of queries."""
    rows = Requests(tx)
    belongings = rows.belongings([request.id for request in requests])
    # A timeline of one line, that it was created, names no run.
    runs = rows.runs_of([request.id for request in requests if request.revision > 1])
    errors = rows.errors_of([request.id for request in requests if request.status == Status.FAILED])
    return [
        _view(request, belongings.get(request.id, Belongings()), runs.get(request.id, ()), errors.get(request.id))
        for request in requests
    ]


def _view(
    request: DeletionRequest, belongings: Belongings, run_ids: Sequence[str], error: Mapping[str, Any] | None
) -> RequestView:
    return RequestView(
        request=request,
        models=belongings.models,
        run_ids=tuple(run_ids),
        certificate_ids=belongings.certificate_ids,
        error=error,
        waits_for=belongings.waits_for if request.status == Status.PENDING else None,
    )


def _view_of_new(tx: Session, request: DeletionRequest, parts: Sequence[Part]) -> RequestView:
    """The same for a request that has just been made: no run has taken it yet, so that all is known."""
    models = _models_of(parts)
    if len(models) > 1:  # the database puts names in order, by rules of its own
        return view(tx, [request])[0]
    names = tuple(model.name for model in models)
    held = any(model.held for part in parts for model in part.pending)
    return _view(request, Belongings(names, waits_for=LEGAL_HOLD if held else None), (), None)


def _accept(
    tx: Session, workspace_id: str, actor: str, command: SubmitDeletion, keyring: Keyring, max_ids: int, at: datetime
) -> tuple[DeletionRequest, Sequence[Part]]:
    """The request and what it touches."""
    check_size(command, max_ids)
    requests = Requests(tx)
    if command.external_id is not None:
        requests.check_external_id(workspace_id, command.external_id)
    if command.policy is not None:
        policies.effective(tx, workspace_id, command.policy)
    parts = find(tx, workspace_id=workspace_id, command=command, keyring=keyring)
    models = _models_of(parts)
    own = models[0].policy if len(models) == 1 else None
    policy = policies.effective(tx, workspace_id, command.policy or own)[1]
    request = _opened(workspace_id, command, parts, terms.clock(command, policy, at), at)
    terms.wind(request, policy)
    no_work = not any(part.pending for part in parts)
    waits = no_work and request.record_count > 0 and _is_held(tx, workspace_id, parts)
    if waits and request.hold_until is None:
        request.status_detail = LEGAL_HOLD
    requests.add(request)
    for part in parts:
        _cover(tx, request.id, part)
    progress.announce(tx, request, kind="created", actor=actor, detail={"record_count": request.record_count}, at=at)
    if no_work and not waits and (request.hold_until is None or request.record_count == 0):
        (request,) = requests.lock([request.id])
        progress.enter(tx, request, Status.COMPLETED, kind="completed", actor="system", detail={}, at=at)
    return request, parts


def _is_held(tx: Session, workspace_id: str, parts: Sequence[Part]) -> bool:
    """Whether a legal hold covers a model of the request or a data set of which it erases records."""
    holds = Holds(tx)
    return any(model.held for model in _models_of(parts)) or any(
        holds.on_dataset(workspace_id, part.dataset_id) for part in parts if part.covered
    )


def _models_of(parts: Sequence[Part]) -> list[Learner]:
    return [model for part in parts for model in (*part.pending, *part.settled)]


def _opened(
    workspace_id: str, command: SubmitDeletion, parts: Sequence[Part], clock: terms.Clock, at: datetime
) -> DeletionRequest:
    held = command.hold_seconds > 0
    return DeletionRequest(
        id=new_id("del"),
        workspace_id=workspace_id,
        status=Status.PENDING,
        status_detail="held" if held else "queued",
        reason=command.reason,
        external_id=command.external_id,
        policy=command.policy,
        metadata_=dict(command.metadata),
        record_count=sum(len(part.covered) for part in parts),
        already_erased=sum(part.already_erased for part in parts),
        revision=1,
        hold_until=at + timedelta(seconds=command.hold_seconds) if held else None,
        regulation=clock.regulation,
        received_at=clock.received_at,
        due_at=clock.due_at,
        traceparent=traceparent(),
        created_at=at,
        updated_at=at,
    )


def _cover(tx: Session, request_id: str, part: Part) -> None:
    ids = [record.record_id for record in part.covered]
    active = sorted(record.record_id for record in part.covered if record.state == "active")
    if len(active) > 1:
        Records(tx).lock(part.dataset_id, active)
    Requests(tx).cover(request_id, part.dataset_id, ids, _targets(part), active)


def _targets(part: Part) -> list[Target]:
    pending = [Target(model.id, Status.PENDING, LEGAL_HOLD if model.held else None) for model in part.pending]
    return [*pending, *(Target(model.id, Status.COMPLETED, None) for model in part.settled)]


def _note_submitted(tx: Session, request: DeletionRequest, actor: str, at: datetime) -> None:
    audit.note(
        tx, workspace_id=request.workspace_id, actor=actor, action="deletion_request.submitted", object_id=request.id,
        details={"record_count": request.record_count, "already_erased": request.already_erased}, at=at,
    )  # fmt: skip
