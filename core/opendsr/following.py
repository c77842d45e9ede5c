"""Data subject requests follow their deletion requests, and every change is told to the controller."""

from datetime import datetime

from sqlalchemy.orm import Session

from core.opendsr import messages
from core.opendsr.deliveries import Callbacks
from core.opendsr.lifecycle import FINAL, Status, advance
from core.opendsr.profile import Profile
from core.opendsr.progress import DONE, NEEDS_ATTENTION, Finer, finer
from core.opendsr.repository import SubjectRequests
from core.opendsr.tables import OpenDsrRequest
from core.platform.ids import new_id
from core.platform.outbox import put_event


def follow_next(tx: Session, *, profile: Profile, at: datetime) -> OpenDsrRequest | None:
    """Bring one request to where its deletion requests have got; None when all are there."""
    row = SubjectRequests(tx).next_changed(at)
    if row is not None:
        follow(tx, row, profile, at)
    return row


def follow(tx: Session, row: OpenDsrRequest, profile: Profile, at: datetime) -> None:
    """The same for a locked request whose hold is over. It passes through every state on its way."""
    if Status(row.status) in FINAL:
        return
    found = finer(SubjectRequests(tx).natives(row.id))
    row.native_revision = SubjectRequests(tx).native_revision(row.id)
    if found.state == NEEDS_ATTENTION and (row.state, row.reason) != (found.state, found.reason):
        _raise_alarm(tx, row, found, profile, at)
    if row.status == Status.PENDING:
        row.state, row.reason = ("queued", None) if found.state == DONE else (found.state, found.reason)
        row.status = advance(Status.PENDING, Status.IN_PROGRESS)
        tell(tx, row, profile, at)
    row.state, row.reason = found.state, found.reason
    if found.state == DONE:
        row.status, row.completed_time = advance(Status.IN_PROGRESS, Status.COMPLETED), at
        row.results_count = SubjectRequests(tx).records_covered(row.id)
        tell(tx, row, profile, at)
    tx.flush()


def tell(tx: Session, row: OpenDsrRequest, profile: Profile, at: datetime) -> None:
    """Write an event about the state that the request is in now for each address; sent after the commit."""
    tx.flush()
    event = messages.Event(new_id("evt"), at)
    native_ids = [native.id for native in SubjectRequests(tx).natives(row.id)]
    callbacks = Callbacks(tx)
    for callback in callbacks.open_for(row.id):
        body = messages.encode(messages.callback(row, callback.url, event, native_ids, profile))
        callbacks.put(callback.id, event_id=event.id, request_status=row.status, body=body, at=at)


def _raise_alarm(tx: Session, row: OpenDsrRequest, found: Finer, profile: Profile, at: datetime) -> None:
    """It will take longer: promise a later time, and tell the operators' webhooks."""
    row.expected_completion_time = max(row.expected_completion_time, at + profile.service_level)
    data = {
        "id": row.id,
        "subject_request_id": row.subject_request_id,
        "status": row.status,
        "reason": found.reason,
        "sequence": SubjectRequests(tx).next_told(row.id),
    }
    put_event(tx, workspace_id=row.workspace_id, type="opendsr_request.needs_attention", data=data, at=at)
