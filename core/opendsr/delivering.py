"""From a due callback to a signed request, and from its answer to what happens next."""

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from core.opendsr.deliveries import Callbacks, DueCallback
from core.opendsr.repository import SubjectRequests
from core.opendsr.signing import Signer
from core.platform.outbox import put_event
from core.platform.settings import WebhookSettings
from core.webhooks.delivering import Verdict, judge
from core.webhooks.sending import Answer

USER_AGENT: Final = "unlearn-opendsr/1 (OpenDSR 2.0)"


def headers(due: DueCallback, signer: Signer, at: datetime) -> dict[str, str]:
    """The request's headers. The signature is over the body alone; id and time are hints for deduplication."""
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        **signer.headers(due.body, legacy=due.legacy),
        "webhook-id": due.event_id,
        "webhook-timestamp": str(int(at.timestamp())),
    }


def record(tx: Session, due: DueCallback, answer: Answer, *, at: datetime, settings: WebhookSettings) -> Verdict:
    """Log the attempt and carry out what follows from it: the same schedule and rules as webhooks have."""
    callbacks = Callbacks(tx)
    callbacks.log(due, answer, at)
    verdict = judge(answer, attempt=due.attempts + 1, at=at, settings=settings)
    settled = callbacks.settle(due, status=verdict.status, next_attempt_at=verdict.next_attempt_at, at=at)
    if settled and verdict.disable:
        callbacks.stop(due.callback_id)
    if settled and verdict.status in ("exhausted", "discarded"):
        _say_undelivered(tx, due, verdict.status, at)
    return verdict


def _say_undelivered(tx: Session, due: DueCallback, outcome: str, at: datetime) -> None:
    row = Callbacks(tx).request_of(due.callback_id)
    data = {
        "id": row.id,
        "subject_request_id": row.subject_request_id,
        "status": row.status,
        "event_id": due.event_id,
        "outcome": outcome,
        "sequence": SubjectRequests(tx).next_told(row.id),
    }
    put_event(tx, workspace_id=row.workspace_id, type="opendsr_request.callback_failed", data=data, at=at)
