"""All SQL on callbacks: addresses, events, attempts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session, aliased

from core.opendsr.tables import OpenDsrAttempt, OpenDsrCallback, OpenDsrEvent, OpenDsrRequest
from core.webhooks.claiming import Room
from core.webhooks.sending import Answer

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class DueCallback:
    """An event that is to be sent now."""

    id: int
    event_id: str
    callback_id: int
    url: str
    body: bytes
    attempts: int
    legacy: bool

    @property
    def receiver(self) -> str:
        """Whom it is for: the address, of whichever request."""
        return self.url

    @property
    def suspect(self) -> bool:
        """It has failed before."""
        return self.attempts > 0


@dataclass(frozen=True, slots=True)
class Logged:
    """An event in the delivery log, with its attempts in order."""

    event: OpenDsrEvent
    url: str
    attempts: tuple[OpenDsrAttempt, ...]


class Callbacks:
    """Callbacks as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def add(self, opendsr_id: str, urls: Sequence[str]) -> None:
        """The request's addresses, in the controller's order."""
        self._tx.add_all(OpenDsrCallback(opendsr_id=opendsr_id, url=url, gone=False) for url in urls)
        self._tx.flush()

    def open_for(self, opendsr_id: str) -> Sequence[OpenDsrCallback]:
        """The addresses that still want to hear of the request."""
        query = select(OpenDsrCallback).where(OpenDsrCallback.opendsr_id == opendsr_id, ~OpenDsrCallback.gone)
        return self._tx.scalars(query.order_by(OpenDsrCallback.id)).all()

    def put(self, callback_id: int, *, event_id: str, request_status: str, body: bytes, at: datetime) -> None:
        """An event for one address, due at once."""
        self._tx.add(
            OpenDsrEvent(
                event_id=event_id,
                callback_id=callback_id,
                request_status=request_status,
                body=body,
                status="pending",
                attempts=0,
                next_attempt_at=at,
                created_at=at,
            )
        )
        self._tx.flush()

    def claim(self, room: Room, *, at: datetime, until: datetime) -> Sequence[DueCallback]:
        """Take due events for which there is room, one of each URL before a second of any.

        Of each address of each request only the oldest pending event can be due, so that they arrive in order. They
        are due again at ``until``: a sender that dies in between repeats them.
        """
        event, callback, older = OpenDsrEvent, OpenDsrCallback, aliased(OpenDsrEvent)
        waits_for_another = (
            select(older.id)
            .where(older.callback_id == event.callback_id, older.status == "pending", older.id < event.id)
            .exists()
        )
        is_due = and_(event.status == "pending", event.next_attempt_at <= at, ~waits_for_another)
        place = func.row_number().over(partition_by=callback.url, order_by=event.next_attempt_at).label("place")
        ranked = (
            select(event.id, event.next_attempt_at, callback.url, place)
            .join(callback, callback.id == event.callback_id)
            .where(is_due, event.attempts > 0 if room.suspects else event.attempts == 0)
            .subquery()
        )
        chosen = (
            select(ranked.c.id)
            .where(ranked.c.place <= room.left_for(ranked.c.url))
            .order_by(ranked.c.place, ranked.c.next_attempt_at)
            .limit(room.limit)
        )
        query = (
            select(event, callback.url, OpenDsrRequest.legacy)
            .join(callback, callback.id == event.callback_id)
            .join(OpenDsrRequest, OpenDsrRequest.id == callback.opendsr_id)
            .where(event.id.in_(chosen), is_due)
            .with_for_update(of=event, skip_locked=True)
        )
        taken = self._tx.execute(query).all()
        for row, _, _ in taken:
            row.next_attempt_at = until
        self._tx.flush()
        return [
            DueCallback(row.id, row.event_id, row.callback_id, url, row.body, row.attempts, legacy)
            for row, url, legacy in taken
        ]

    def log(self, due: DueCallback, answer: Answer, at: datetime) -> None:
        """Note an attempt."""
        self._tx.add(
            OpenDsrAttempt(
                opendsr_event=due.id,
                at=at,
                status_code=answer.status_code,
                latency_ms=answer.latency_ms,
                error=answer.error,
                response=answer.response,
            )
        )
        self._tx.flush()

    def settle(self, due: DueCallback, *, status: str, next_attempt_at: datetime | None, at: datetime) -> bool:
        """Write what came of the attempt, unless another sender has done so since it was claimed (then False)."""
        change = (
            update(OpenDsrEvent)
            .where(OpenDsrEvent.id == due.id, OpenDsrEvent.attempts == due.attempts, OpenDsrEvent.status == "pending")
            .values(
                status=status,
                attempts=due.attempts + 1,
                next_attempt_at=next_attempt_at,
                delivered_at=at if status == "delivered" else None,
            )
            .returning(OpenDsrEvent.id)
        )
        return self._tx.scalar(change.execution_options(synchronize_session=False)) is not None

    def stop(self, callback_id: int) -> None:
        """Send nothing more to the address for this request."""
        self._tx.execute(update(OpenDsrCallback).where(OpenDsrCallback.id == callback_id).values(gone=True))
        self._tx.execute(
            update(OpenDsrEvent)
            .where(OpenDsrEvent.callback_id == callback_id, OpenDsrEvent.status == "pending")
            .values(status="discarded", next_attempt_at=None)
            .execution_options(synchronize_session=False)
        )

    def request_of(self, callback_id: int) -> OpenDsrRequest:
        """The request that the address belongs to."""
        query = select(OpenDsrRequest).join(OpenDsrCallback, OpenDsrCallback.opendsr_id == OpenDsrRequest.id)
        return self._tx.scalars(query.where(OpenDsrCallback.id == callback_id)).one()

    def logged(self, opendsr_id: str) -> Sequence[Logged]:
        """Everything that was sent or is to be sent about a request, oldest first."""
        rows = self._tx.execute(
            select(OpenDsrEvent, OpenDsrCallback.url)
            .join(OpenDsrCallback, OpenDsrCallback.id == OpenDsrEvent.callback_id)
            .where(OpenDsrCallback.opendsr_id == opendsr_id)
            .order_by(OpenDsrEvent.id)
        ).all()
        ids = [event.id for event, _ in rows]
        attempts = self._tx.scalars(
            select(OpenDsrAttempt).where(OpenDsrAttempt.opendsr_event.in_(ids)).order_by(OpenDsrAttempt.id)
        ).all()
        return [
            Logged(event, url, tuple(one for one in attempts if one.opendsr_event == event.id)) for event, url in rows
        ]

    def expire(self, before: datetime) -> int:
        """Delete old events that are not pending, with their attempts, a portion at a time; says how many."""
        old = (
            select(OpenDsrEvent.id)
            .where(OpenDsrEvent.created_at < before, OpenDsrEvent.status != "pending")
            .limit(_AT_ONCE)
        )
        gone = delete(OpenDsrEvent).where(OpenDsrEvent.id.in_(old)).returning(OpenDsrEvent.id)
        return len(self._tx.execute(gone).all())
