"""Creating calls that may be repeated: the first answer is kept and given again.

A key is one workspace's, for one method and path. The record is written in the transaction that creates the object.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from core.access.repository import IdempotencyRecords
from core.access.tables import IdempotencyRecord
from core.platform.errors import Conflict, DomainError, InvalidInput
from core.platform.resealing import Sealed
from core.platform.secrets import Keyring

KEPT_FOR: Final = timedelta(hours=24)
_PURPOSE: Final = "idempotency"
SEALED: Final = (Sealed(IdempotencyRecord, IdempotencyRecord.body, _PURPOSE),)
"""What this slice keeps sealed, and never for longer than ``KEPT_FOR``."""


class StillRunning(Conflict):
    """The call that came first with this Idempotency-Key has not ended yet."""

    code = "idempotency_in_progress"
    retry_after_s = 1


class KeyReused(InvalidInput):
    """The Idempotency-Key has been used before with another body."""

    code = "idempotency_key_reused"


class BadIdempotencyKey(DomainError):
    """The Idempotency-Key header is not 1 to 255 printable ASCII characters, quoted or not."""

    code = "bad_idempotency_key"


class IdempotencyKeyRequired(DomainError):
    """This service asks for an Idempotency-Key on every call that creates something."""

    code = "idempotency_key_required"


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be done once."""

    workspace_id: str
    method: str
    path: str
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: status, the headers that belong to it, and the body's bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def begin(tx: Session, call: Call, *, keyring: Keyring, at: datetime) -> Answer | None:
    """The answer given before, or None: then the key is the caller's until the transaction ends.

    Raises ``StillRunning`` while another transaction holds the key, ``KeyReused`` for another body under it.
    """
    records = IdempotencyRecords(tx)
    if not records.try_lock(call.workspace_id, call.method, call.path, call.key):
        raise StillRunning("The first call with this Idempotency-Key is still running.")
    record = records.get(call.workspace_id, call.method, call.path, call.key)
    if record is None:
        return None
    if record.created_at <= at - KEPT_FOR:
        records.remove(record)
        return None
    if not keyring.vouches(_PURPOSE, call.body, record.fingerprint):
        raise KeyReused("This Idempotency-Key was used with another body.")
    return Answer(record.status, record.headers, keyring.open(_PURPOSE, record.body))


def remember(tx: Session, call: Call, answer: Answer, *, keyring: Keyring, at: datetime) -> None:
    """Keep the answer for ``KEPT_FOR``. The body is sealed: it may hold a secret that is shown once."""
    IdempotencyRecords(tx).add(
        IdempotencyRecord(
            workspace_id=call.workspace_id,
            method=call.method,
            path=call.path,
            key=call.key,
            fingerprint=keyring.mac(_PURPOSE, call.body),
            status=answer.status,
            headers=dict(answer.headers),
            body=keyring.seal(_PURPOSE, answer.body),
            created_at=at,
        )
    )


def expire(tx: Session, *, at: datetime) -> int:
    """Remove the answers that need not be kept any longer; says how many there were."""
    return IdempotencyRecords(tx).expire(at - KEPT_FOR)
