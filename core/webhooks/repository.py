"""All SQL about webhook endpoints, messages, deliveries and attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from core.platform.paging import Page, Slice, keyset, page_of
from core.webhooks.tables import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookMessage

_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that has been claimed, with what is needed to send it."""

    message_id: str
    endpoint_id: str
    attempts: int
    url: str
    body: bytes
    sealed_secret: bytes
    sealed_previous_secret: bytes | None
    previous_secret_until: datetime | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery with its message and the attempts so far."""

    row: WebhookDelivery
    message: WebhookMessage
    attempts: tuple[WebhookAttempt, ...]


class Endpoints:
    """Where workspaces want to hear of events."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def add(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        """Insert it."""
        self._tx.add(endpoint)
        self._tx.flush()
        return endpoint

    def get(self, workspace_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint | None:
        """The workspace's endpoint unless it has been deleted."""
        query = select(WebhookEndpoint).where(
            WebhookEndpoint.id == endpoint_id,
            WebhookEndpoint.workspace_id == workspace_id,
            WebhookEndpoint.deleted_at.is_(None),
        )
        return self._tx.scalar(query.with_for_update() if lock else query)

    def locked(self, endpoint_id: str) -> WebhookEndpoint | None:
        """The endpoint of any workspace, read afresh and locked."""
        query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).with_for_update()
        return self._tx.scalar(query.execution_options(populate_existing=True))

    def page(self, workspace_id: str, page: Page) -> Slice[WebhookEndpoint]:
        """The workspace's endpoints, newest first."""
        query = select(WebhookEndpoint).where(
            WebhookEndpoint.workspace_id == workspace_id, WebhookEndpoint.deleted_at.is_(None)
        )
        rows = self._tx.scalars(keyset(query, page, WebhookEndpoint.created_at, WebhookEndpoint.id)).all()
        return page_of(rows, page, lambda endpoint: (endpoint.created_at, endpoint.id))

    def listening(self, workspace_id: str) -> Sequence[WebhookEndpoint]:
        """The workspace's enabled endpoints."""
        query = select(WebhookEndpoint).where(
            WebhookEndpoint.workspace_id == workspace_id,
            WebhookEndpoint.enabled,
            WebhookEndpoint.deleted_at.is_(None),
        )
        return self._tx.scalars(query).all()


class Deliveries:
    """Messages on their way to endpoints."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def add(self, message: WebhookMessage, endpoint_ids: Sequence[str], at: datetime) -> None:
        """Insert a message and its delivery to each endpoint, due at once."""
        self._tx.add(message)
        self._tx.flush()
        self._tx.add_all(
            WebhookDelivery(
                message_id=message.id, endpoint_id=endpoint_id, status="pending", attempts=0, next_attempt_at=at
            )
            for endpoint_id in endpoint_ids
        )
        self._tx.flush()

    def get(self, endpoint_id: str, message_id: str, *, lock: bool = False) -> WebhookDelivery | None:
        """The delivery of a message to an endpoint, read afresh."""
        query = select(WebhookDelivery).where(
            WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.message_id == message_id
        )
        query = query.with_for_update() if lock else query
        return self._tx.scalar(query.execution_options(populate_existing=True))

    def whole(self, endpoint_id: str, message_id: str) -> Delivery | None:
        """The delivery with message and attempts."""
        row, message = self.get(endpoint_id, message_id), self._tx.get(WebhookMessage, message_id)
        if row is None or message is None:
            return None
        return Delivery(row, message, self._attempts(endpoint_id, [message_id]).get(message_id, ()))

    def page(self, endpoint_id: str, status: str | None, page: Page) -> Slice[Delivery]:
        """The endpoint's deliveries, newest message first."""
        query = (
            select(WebhookDelivery, WebhookMessage)
            .join(WebhookMessage, WebhookMessage.id == WebhookDelivery.message_id)
            .where(WebhookDelivery.endpoint_id == endpoint_id)
        )
        if status is not None:
            query = query.where(WebhookDelivery.status == status)
        query = keyset(query, page, WebhookMessage.created_at, WebhookMessage.id)
        rows = self._tx.execute(query).all()
        found = page_of(rows, page, lambda row: (row[1].created_at, row[1].id))
        attempts = self._attempts(endpoint_id, [message.id for _, message in found.data])
        whole = tuple(Delivery(row, message, attempts.get(message.id, ())) for row, message in found.data)
        return Slice(whole, found.next_cursor, found.has_more)

    def _attempts(self, endpoint_id: str, message_ids: Sequence[str]) -> Mapping[str, tuple[WebhookAttempt, ...]]:
        query = (
            select(WebhookAttempt)
            .where(WebhookAttempt.endpoint_id == endpoint_id, WebhookAttempt.message_id.in_(message_ids))
            .order_by(WebhookAttempt.id)
        )
        found: dict[str, tuple[WebhookAttempt, ...]] = {}
        for attempt in self._tx.scalars(query):
            found[attempt.message_id] = (*found.get(attempt.message_id, ()), attempt)
        return found

    def claim(
        self, *, at: datetime, until: datetime, limit: int, each: int, without: Sequence[str] = ()
    ) -> Sequence[Due]:
        """Take up to ``limit`` due deliveries, up to ``each`` of one endpoint and none of those in ``without``.

        They are due again at ``until``: a sender that dies in between repeats them.
        """
        row, endpoint = WebhookDelivery, WebhookEndpoint
        is_due = and_(row.status == "pending", row.next_attempt_at <= at)
        place = func.row_number().over(partition_by=row.endpoint_id, order_by=row.next_attempt_at).label("place")
        ranked = (
            select(row.message_id, row.endpoint_id, row.next_attempt_at, place)
            .where(is_due, row.endpoint_id.not_in(without))
            .subquery()
        )
        chosen = (
            select(ranked.c.message_id, ranked.c.endpoint_id)
            .where(ranked.c.place <= each)
            .order_by(ranked.c.next_attempt_at)
            .limit(limit)
        )
        # A row that another sender has just taken fails `is_due` when Postgres looks at it again under the lock.
        query = (
            select(row, endpoint, WebhookMessage.body)
            .join(endpoint, endpoint.id == row.endpoint_id)
            .join(WebhookMessage, WebhookMessage.id == row.message_id)
            .where(tuple_(row.message_id, row.endpoint_id).in_(chosen), is_due)
            .where(endpoint.enabled, endpoint.deleted_at.is_(None))
            .with_for_update(of=row, skip_locked=True)
        )
        taken = self._tx.execute(query).all()
        for delivery, _, _ in taken:
            delivery.next_attempt_at = until
        self._tx.flush()
        return [_due(delivery, target, body) for delivery, target, body in taken]

    def log(self, due: Due, **outcome: Any) -> None:
        """Note an attempt."""
        self._tx.add(WebhookAttempt(message_id=due.message_id, endpoint_id=due.endpoint_id, **outcome))
        self._tx.flush()

    def settle(self, due: Due, *, status: str, next_attempt_at: datetime | None, delivered_at: datetime | None) -> bool:
        """Write the outcome of the attempt, unless the delivery has moved on since it was claimed (then False)."""
        change = (
            update(WebhookDelivery)
            .where(
                WebhookDelivery.message_id == due.message_id,
                WebhookDelivery.endpoint_id == due.endpoint_id,
                WebhookDelivery.attempts == due.attempts,
                WebhookDelivery.status == "pending",
            )
            .values(
                status=status,
                attempts=due.attempts + 1,
                next_attempt_at=next_attempt_at,
                delivered_at=func.coalesce(delivered_at, WebhookDelivery.delivered_at),
            )
            .returning(WebhookDelivery.message_id)
        )
        return self._tx.scalar(change.execution_options(synchronize_session=False)) is not None

    def postpone(self, endpoint_id: str, until: datetime) -> None:
        """Let nothing go to the endpoint before ``until``."""
        change = update(WebhookDelivery).where(
            WebhookDelivery.endpoint_id == endpoint_id,
            WebhookDelivery.status == "pending",
            WebhookDelivery.next_attempt_at < until,
        )
        change = change.values(next_attempt_at=until).execution_options(synchronize_session=False)
        self._tx.execute(change)

    def discard_pending(self, endpoint_id: str) -> int:
        """Send nothing that waits for the endpoint; says how many there were."""
        change = (
            update(WebhookDelivery)
            .where(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.status == "pending")
            .values(status="discarded", next_attempt_at=None)
            .returning(WebhookDelivery.message_id)
        )
        return len(self._tx.execute(change.execution_options(synchronize_session=False)).all())

    def expire(self, before: datetime) -> int:
        """Delete messages older than ``before`` with their deliveries and attempts, except those still pending.

        A call takes some of them at most, so that its transaction stays short; says how many.
        """
        waiting = select(WebhookDelivery.message_id).where(WebhookDelivery.status == "pending")
        old = self._tx.scalars(
            select(WebhookMessage.id)
            .where(WebhookMessage.created_at < before, WebhookMessage.id.not_in(waiting))
            .limit(_AT_ONCE)
        ).all()
        for rows, column in (
            (WebhookAttempt, WebhookAttempt.message_id),
            (WebhookDelivery, WebhookDelivery.message_id),
            (WebhookMessage, WebhookMessage.id),
        ):
            self._tx.execute(delete(rows).where(column.in_(old)))
        return len(old)


def _due(delivery: WebhookDelivery, endpoint: WebhookEndpoint, body: bytes) -> Due:
    return Due(
        delivery.message_id,
        delivery.endpoint_id,
        delivery.attempts,
        endpoint.url,
        body,
        endpoint.sealed_secret,
        endpoint.sealed_previous_secret,
        endpoint.previous_secret_until,
    )
