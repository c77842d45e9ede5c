"""How requests move: one place that changes their states, writes their timelines and frees or erases their records."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.datasets.repository import Records
from core.deletions.lifecycle import FINAL, OPEN, Status, advance, advance_target, route, summarise
from core.deletions.repository import Coverage, Requests
from core.deletions.tables import DeletionRequest, DeletionTarget
from core.platform import outbox

_DETAIL = {
    Status.PENDING: "queued",
    Status.IN_PROGRESS: "running",
    Status.NEEDS_REVIEW: "waiting_for_review",
    Status.COMPLETED: "done",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}
_EVENTS = {
    Status.IN_PROGRESS: "deletion_request.started",
    Status.NEEDS_REVIEW: "deletion_request.needs_attention",
    Status.COMPLETED: "deletion_request.completed",
    Status.FAILED: "deletion_request.failed",
    Status.CANCELLED: "deletion_request.cancelled",
}


def start(tx: Session, *, model_id: str, run_id: str, request_ids: Collection[str], at: datetime) -> None:
    """A run takes the pending targets of the requests on a model. The requests must be locked."""
    for request in Requests(tx).lock(request_ids):
        for target in _of_model(tx, request, model_id, {Status.PENDING}):
            target.run_id, target.waits_for = run_id, None
            _set(target, Status.IN_PROGRESS, "started", at)
        _follow(tx, request, kind="started", actor="system", detail={"run_id": run_id}, at=at)


def complete_without_run(tx: Session, *, model_id: str, request_ids: Collection[str], at: datetime) -> None:
    """The model holds nothing of what these requests want forgotten (any more): their targets on it are done."""
    for request in Requests(tx).lock(request_ids):
        for target in _of_model(tx, request, model_id, {Status.PENDING}):
            target.waits_for = None
            _set(target, Status.IN_PROGRESS, "already_unlearned", at)
            _set(target, Status.COMPLETED, "already_unlearned", at)
        _follow(tx, request, kind="already_unlearned", actor="system", detail={}, at=at)


def settle(
    tx: Session,
    *,
    workspace_id: str,
    run_id: str,
    to: Status,
    kind: str,
    actor: str,
    detail: Mapping[str, Any],
    at: datetime,
) -> tuple[str, ...]:
    """Move every target that the run holds to ``to`` and let its requests follow; the requests' ids.

    ``to`` is ``completed``, ``failed``, ``needs_review``, ``pending`` (another run must take them) or ``in_progress``.
    """
    requests = Requests(tx)
    requests.serialise(workspace_id)
    changed: list[str] = []
    for request in requests.lock(requests.of_run(run_id)):
        held = [t for t in requests.targets(request.id) if t.run_id == run_id and Status(t.status) in _HELD]
        for target in held:
            if target.status == Status.NEEDS_REVIEW and to == Status.COMPLETED:
                _set(target, Status.IN_PROGRESS, kind, at)
            _set(target, to, kind, at)
        if held:
            _follow(tx, request, kind=kind, actor=actor, detail={"run_id": run_id, **detail}, at=at)
            changed.append(request.id)
    return tuple(changed)


def complete_held(tx: Session, *, at: datetime) -> str | None:
    """End one request that only its hold kept open: no model holds its records. Its id; None when there is none."""
    found = Requests(tx).next_held_idle()
    if found is None:
        return None
    Requests(tx).serialise(found.workspace_id)
    (request,) = Requests(tx).lock([found.id])
    if request.status != Status.PENDING:  # somebody was faster
        return None
    enter(tx, request, Status.COMPLETED, kind="completed", actor="system", detail={}, at=at)
    return request.id


_HELD = frozenset({Status.IN_PROGRESS, Status.NEEDS_REVIEW})


def enter(
    tx: Session,
    request: DeletionRequest,
    to: Status,
    *,
    kind: str,
    actor: str,
    detail: Mapping[str, Any],
    at: datetime,
) -> None:
    """Move a locked request to ``to``, by way of ``in_progress`` where the rules say so. Raises ``IllegalMove``.

    Each step is a line of the timeline and an event; ``kind`` names the last one. A request that ends settles its
    records: erased when it is completed, free again when it is cancelled and nobody else covers them.
    """
    steps = route(Status(request.status), to) or (advance(Status(request.status), to, why=kind, at=at).after,)
    for step in steps:
        move = advance(Status(request.status), step, why=kind, at=at)
        request.status, request.status_detail = move.after, _DETAIL[move.after]
        if step == Status.IN_PROGRESS and request.started_at is None:
            request.started_at = at
        if step in FINAL:
            request.finished_at = at
        request.revision += 1
        announce(tx, request, kind=kind if step == to else "started", actor=actor, detail=detail, at=at)
    if to in FINAL:
        _settle_records(tx, request)


def announce(
    tx: Session, request: DeletionRequest, *, kind: str, actor: str, detail: Mapping[str, Any], at: datetime
) -> None:
    """Write the request's present state to its timeline and tell webhook receivers."""
    event = "deletion_request.created" if kind == "created" else _EVENTS[Status(request.status)]
    _write(tx, request, kind=kind, actor=actor, detail=detail, at=at, telling=_told(request, event, {}, at))


def remark(
    tx: Session,
    request: DeletionRequest,
    *,
    kind: str,
    actor: str,
    detail: Mapping[str, Any],
    told: Mapping[str, Any],
    at: datetime,
) -> None:
    """Note something that moves no state, with ``detail`` for the timeline and ``told`` for webhook receivers.

    The event is ``deletion_request.<kind>``. The request must be locked.
    """
    request.revision += 1
    telling = _told(request, f"deletion_request.{kind}", told, at)
    _write(tx, request, kind=kind, actor=actor, detail=detail, at=at, telling=telling)


def _write(
    tx: Session,
    request: DeletionRequest,
    *,
    kind: str,
    actor: str,
    detail: Mapping[str, Any],
    at: datetime,
    telling: Mapping[str, Any] | None = None,
) -> None:
    request.updated_at = at
    Requests(tx).add_event(request, kind, actor, detail, at, telling=telling)


def _told(request: DeletionRequest, event: str, more: Mapping[str, Any], at: datetime) -> Mapping[str, Any]:
    data = {
        "id": request.id,
        "status": request.status,
        "status_detail": request.status_detail,
        "external_id": request.external_id,
        "record_count": request.record_count,
        "sequence": request.revision,
        **more,
    }
    return outbox.event_values(workspace_id=request.workspace_id, type=event, data=data, at=at)


def _follow(
    tx: Session, request: DeletionRequest, *, kind: str, actor: str, detail: Mapping[str, Any], at: datetime
) -> None:
    """Let a request take the state that follows from its targets; a change of targets alone is noted as well."""
    if Status(request.status) in FINAL:
        return
    states = [Status(target.status) for target in Requests(tx).targets(request.id)]
    to = summarise(Status(request.status), states)
    if to != request.status:
        enter(tx, request, to, kind=kind, actor=actor, detail=detail, at=at)
    else:
        request.revision += 1
        _write(tx, request, kind=kind, actor=actor, detail=detail, at=at)
    if request.status == Status.IN_PROGRESS:
        request.status_detail = "running" if Status.IN_PROGRESS in states else "queued"
    tx.flush()


def _of_model(tx: Session, request: DeletionRequest, model_id: str, states: Collection[Status]) -> list[DeletionTarget]:
    targets = Requests(tx).targets(request.id)
    return [target for target in targets if target.model_id == model_id and Status(target.status) in states]


def _set(target: DeletionTarget, to: Status, why: str, at: datetime) -> None:
    if target.status != to:
        target.status = advance_target(Status(target.status), to, why=why, at=at).after


def _settle_records(tx: Session, request: DeletionRequest) -> None:
    tx.flush()
    for dataset_id, records in Requests(tx).coverage(request.id).items():
        for state in ("erased", "active"):
            ids = [record.record_id for record in records if record_state(record) == state]
            if ids:
                Records(tx).mark(dataset_id, ids, state)


def record_state(record: Coverage) -> str:
    """What a record becomes by the requests that cover it.

    An open request keeps it waiting; otherwise one that is completed erases it. After a failed one it stays out of
    every retain set, because somebody's wish to be forgotten still stands. Only cancelled ones set it free.
    """
    if record.statuses & OPEN:
        return "pending_erasure"
    if Status.COMPLETED in record.statuses:
        return "erased"
    return "pending_erasure" if Status.FAILED in record.statuses else "active"
