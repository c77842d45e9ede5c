"""Messages written in the transaction that causes them, and sent afterwards by the relay.

A row is either a ``task`` (ring a worker's doorbell by Celery task name) or an ``event`` (something happened that
webhook receivers may hear of). Rows are sent at least once. Tasks are sent in no promised order; events about one thing
are handed over in the order in which they happened, because its row was locked when they were written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    TextClause,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.platform.database import Base, inserting

_EVENTS_LOCK: Final = 0x756E6C6561726E  # any number that nothing else locks


class OutboxRow(Base):
    """One message to send. ``sent_at`` is null until it has been handed over."""

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("topic in ('task', 'event')", name="topic"),
        Index("ix_outbox_unsent", "id", postgresql_where=text("sent_at is null")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    topic: Mapped[str]
    name: Mapped[str]
    """Celery task name, or event type such as ``run.succeeded``."""
    workspace_id: Mapped[str | None]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]


_PUT: Final = inserting(OutboxRow)
_EVENT_ROW: Final = (
    "insert into outbox (topic, name, workspace_id, payload) values ('event', :event, :workspace_id, :payload)"
)


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A row as the relay sees it."""

    id: int
    topic: Literal["task", "event"]
    name: str
    workspace_id: str | None
    payload: dict[str, Any]
    created_at: datetime


def put_task(tx: Session, name: str, *args: str) -> None:
    """Ring a worker after commit: ``args`` are ids, never work."""
    tx.execute(_PUT, {"topic": "task", "name": name, "workspace_id": None, "payload": {"args": list(args)}})


def put_event(tx: Session, *, workspace_id: str, type: str, data: dict[str, Any], at: datetime) -> None:
    """Tell webhook receivers after commit. ``data`` is thin: ids, states, counts; no personal data."""
    tx.execute(_PUT_EVENT, event_values(workspace_id=workspace_id, type=type, data=data, at=at))


def event_values(*, workspace_id: str, type: str, data: dict[str, Any], at: datetime) -> dict[str, Any]:
    """The same as parameters of a statement ``with_event``."""
    return {"event": type, "workspace_id": workspace_id, "payload": {"data": data, "at": at.isoformat()}}


def with_event(change: str = "") -> TextClause:
    """``change`` in SQL, and an event put in the same statement: a row less to send for."""
    first = f"with change as ({change}) " if change else ""
    return text(f"{first}{_EVENT_ROW}").bindparams(bindparam("payload", type_=JSONB))


_PUT_EVENT: Final = with_event()


def take_unsent(tx: Session, *, topic: Literal["task", "event"], limit: int) -> Sequence[OutboxMessage]:
    """Lock up to ``limit`` unsent rows; other relays skip them until this transaction ends.

    Events are taken by one relay at a time, so that they keep their order: for the others there are none meanwhile.
    """
    if topic == "event" and not tx.execute(select(func.pg_try_advisory_xact_lock(_EVENTS_LOCK))).scalar_one():
        return []
    rows = tx.scalars(
        select(OutboxRow)
        .where(OutboxRow.sent_at.is_(None), OutboxRow.topic == topic)
        .order_by(OutboxRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [OutboxMessage(r.id, topic, r.name, r.workspace_id, r.payload, r.created_at) for r in rows]


def mark_sent(tx: Session, ids: Sequence[int]) -> None:
    """Note that the rows have been handed over."""
    tx.execute(update(OutboxRow).where(OutboxRow.id.in_(ids)).values(sent_at=func.now()))
