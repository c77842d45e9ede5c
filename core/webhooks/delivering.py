"""From a due delivery to a signed request, and from its answer to what happens next."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from core.platform.secrets import Keyring
from core.platform.settings import WebhookSettings
from core.webhooks import signing, static_headers
from core.webhooks.deliveries import Deliveries, Due
from core.webhooks.repository import Endpoints
from core.webhooks.sending import Answer
from core.webhooks.service import PURPOSE, disable
from core.webhooks.signing import Algorithm, Key

USER_AGENT: Final = "unlearn-webhooks/1 (Standard Webhooks)"
FAILING_FOR: Final = timedelta(days=5)
"""An endpoint that has done nothing but fail for so long is disabled."""
_LONGEST_WAIT_S: Final = 24 * 3600
_LONGEST_PAUSE_S: Final = 1800
"""Of the whole endpoint, unless it asks for more: one attempt then tells whether it has recovered."""
_SLOW_DOWN: Final = frozenset({429, 502, 504})
_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an attempt."""

    status: str
    next_attempt_at: datetime | None
    paused_until: datetime | None = None
    """Nothing at all goes to the receiver before."""
    disable: bool = False


def headers(due: Due, keyring: Keyring, at: datetime) -> dict[str, str]:
    """The request's headers, signed with the present key and, while their grace lasts, the ones before it."""
    keys = [
        Key(Algorithm(key.algorithm), keyring.open(PURPOSE, key.sealed))
        for key in due.keys
        if key.signs_until is None or at < key.signs_until
    ]
    timestamp = int(at.timestamp())
    return {
        **static_headers.unseal(due.sealed_headers, keyring),
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
    if answer.delivered:
        return Verdict("delivered", None)
    if answer.status_code == _GONE:
        return Verdict("discarded", None, disable=True)
    asked = min(answer.retry_after_s or 0, _LONGEST_WAIT_S)
    last = attempt >= len(settings.schedule_s)
    pause = settings.schedule_s[min(attempt, len(settings.schedule_s) - 1)] * (1 + settings.jitter * (2 * chance() - 1))
    slow_down = answer.status_code in _SLOW_DOWN or asked > 0
    paused_until = at + timedelta(seconds=max(asked, min(pause, _LONGEST_PAUSE_S))) if slow_down else None
    if last:
        return Verdict("exhausted", None, paused_until)
    return Verdict("pending", at + timedelta(seconds=max(pause, asked)), paused_until)


def record(tx: Session, due: Due, answer: Answer, *, at: datetime, settings: WebhookSettings) -> Verdict:
    """Log the attempt and carry out what follows from it, for the message and for the endpoint."""
    verdict = judge(answer, attempt=due.attempts + 1, at=at, settings=settings)
    failing_since = _note_health(tx, due.endpoint_id, answer, verdict, at)  # first: who disables it locks it first too
    deliveries = Deliveries(tx)
    deliveries.log(
        due,
        at=at,
        status_code=answer.status_code,
        latency_ms=answer.latency_ms,
        error=answer.error,
        response=answer.response,
    )
    deliveries.settle(
        due,
        status=verdict.status,
        next_attempt_at=verdict.next_attempt_at,
        delivered_at=at if answer.delivered else None,
    )
    if verdict.disable:
        disable(tx, due.endpoint_id, reason="gone", at=at)
    elif failing_since is not None and at - failing_since >= FAILING_FOR:
        disable(tx, due.endpoint_id, reason="failing", at=at)
    return verdict


def _note_health(tx: Session, endpoint_id: str, answer: Answer, verdict: Verdict, at: datetime) -> datetime | None:
    """Since when the endpoint has been failing, after this answer."""
    endpoints = Endpoints(tx)
    if answer.delivered:
        endpoints.note_success(endpoint_id)
        return None
    return endpoints.note_failure(endpoint_id, at=at, ours=answer.ours, paused_until=verdict.paused_until)
