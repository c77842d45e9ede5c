"""From a due delivery to a signed request, and from its answer to what happens next."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from core.access import audit
from core.platform.outbox import put_event
from core.platform.secrets import Keyring
from core.platform.settings import WebhookSettings
from core.webhooks import signing
from core.webhooks.repository import Deliveries, Due, Endpoints
from core.webhooks.sending import Answer
from core.webhooks.service import PURPOSE

USER_AGENT: Final = "unlearn-webhooks/1 (Standard Webhooks)"
_LONGEST_WAIT_S: Final = 24 * 3600
_SLOW_DOWN: Final = frozenset({429, 502, 504})
_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an attempt."""

    status: str
    next_attempt_at: datetime | None
    slow_down: bool = False
    disable: bool = False


def headers(due: Due, keyring: Keyring, at: datetime) -> dict[str, str]:
    """The request's headers, signed with the current secret and, while its grace lasts, the one before."""
    keys = [keyring.open(PURPOSE, due.sealed_secret)]
    until = due.previous_secret_until
    if due.sealed_previous_secret is not None and until is not None and at < until:
        keys.append(keyring.open(PURPOSE, due.sealed_previous_secret))
    timestamp = int(at.timestamp())
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": due.message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.signature(keys, message_id=due.message_id, timestamp=timestamp, body=due.body),
    }


def judge(
    answer: Answer,
    *,
    attempt: int,
    at: datetime,
    settings: WebhookSettings,
    chance: Callable[[], float] = random.random,
) -> Verdict:
    """What follows from the answer to attempt number ``attempt`` (from 1). ``chance`` gives the jitter, in [0, 1)."""
    if answer.status_code is not None and 200 <= answer.status_code < 300:
        return Verdict("delivered", None)
    if answer.status_code == _GONE:
        return Verdict("discarded", None, disable=True)
    asked = min(answer.retry_after_s or 0, _LONGEST_WAIT_S)
    slow_down = answer.status_code in _SLOW_DOWN or asked > 0
    if attempt >= len(settings.schedule_s):
        return Verdict("exhausted", None)
    pause = settings.schedule_s[attempt] * (1 + settings.jitter * (2 * chance() - 1))
    return Verdict("pending", at + timedelta(seconds=max(pause, asked)), slow_down)


def record(tx: Session, due: Due, answer: Answer, *, at: datetime, settings: WebhookSettings) -> Verdict:
    """Log the attempt and carry out what follows from it."""
    deliveries = Deliveries(tx)
    deliveries.log(
        due,
        at=at,
        status_code=answer.status_code,
        latency_ms=answer.latency_ms,
        error=answer.error,
        response=answer.response,
    )
    verdict = judge(answer, attempt=due.attempts + 1, at=at, settings=settings)
    deliveries.settle(
        due,
        status=verdict.status,
        next_attempt_at=verdict.next_attempt_at,
        delivered_at=at if verdict.status == "delivered" else None,
    )
    if verdict.slow_down and verdict.next_attempt_at is not None:
        deliveries.postpone(due.endpoint_id, verdict.next_attempt_at)
    if verdict.disable:
        _disable(tx, due.endpoint_id, reason="gone", at=at)
    return verdict


def _disable(tx: Session, endpoint_id: str, *, reason: str, at: datetime) -> None:
    endpoint = Endpoints(tx).locked(endpoint_id)
    if endpoint is None or not endpoint.enabled:
        return
    endpoint.enabled, endpoint.disabled_reason, endpoint.updated_at = False, reason, at
    tx.flush()
    Deliveries(tx).discard_pending(endpoint_id)
    put_event(
        tx,
        workspace_id=endpoint.workspace_id,
        type="webhook_endpoint.disabled",
        data={"id": endpoint_id, "reason": reason},
        at=at,
    )
    audit.note(
        tx,
        workspace_id=endpoint.workspace_id,
        actor="system",
        action="webhook_endpoint.disabled",
        object_id=endpoint_id,
        details={"reason": reason},
        at=at,
    )
