"""All SQL about deliveries and attempts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, and_, case, delete, func, literal, or_, select, true, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from core.platform.paging import Page, Slice, keyset, page_of
from core.webhooks.claiming import Room
from core.webhooks.repository import MessageFilter
from core.webhooks.tables import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookMessage, WebhookOldKey

_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A key of an endpoint as it is stored; ``signs_until`` is None for the present one."""

    algorithm: str
    sealed: bytes
    signs_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that has been claimed, with what is needed to send it."""

    message_id: str
    endpoint_id: str
    attempts: int
    url: str
    body: bytes
    keys: tuple[SealedKey, ...]
    """Newest first."""
    sealed_headers: bytes | None
    suspect: bool

    @property
    def receiver(self) -> str:
        """Whom it is for: the endpoint."""
        return self.endpoint_id


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery with its message and the attempts so far."""

    row: WebhookDelivery
    message: WebhookMessage
    endpoint: WebhookEndpoint
    attempts: tuple[WebhookAttempt, ...]

    @property
    def next_attempt_at(self) -> datetime | None:
        """When it is tried next, the endpoint's pause considered."""
        at, paused_until = self.row.next_attempt_at, self.endpoint.paused_until
        return max(at, paused_until) if at is not None and paused_until is not None else at


@dataclass(frozen=True, slots=True)
class Stats:
    """How an endpoint has done since some moment, and what waits for it now."""

    attempts: int
    successes: int
    latency_ms_median: float | None
    latency_ms_p95: float | None
    backlog: int
    oldest_pending_at: datetime | None


class Deliveries:
    """Messages on their way to endpoints."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def add(self, message: WebhookMessage, endpoint_ids: Iterable[str], at: datetime) -> None:
        """The message's delivery to each endpoint, due at ``at``. A test has no place in any order."""
        place = {"priority": 0} if message.test else {"resource": message.resource, "position": message.position}
        self._tx.add_all(
            WebhookDelivery(
                message_id=message.id,
                endpoint_id=endpoint_id,
                status="pending",
                attempts=0,
                next_attempt_at=at,
                **place,
            )
            for endpoint_id in endpoint_ids
        )
        self._tx.flush()

    def add_again(
        self, endpoint_id: str, messages: Sequence[WebhookMessage], *, only_failed: bool, at: datetime
    ) -> int:
        """Let the messages go to the endpoint again, by the whole schedule; says how many.

        Those on their way already are left alone, and with ``only_failed`` those that were delivered.
        """
        if not messages:
            return 0
        fresh = insert(WebhookDelivery).values(
            [
                {
                    "message_id": message.id,
                    "endpoint_id": endpoint_id,
                    "resource": message.resource,
                    "position": message.position,
                    "next_attempt_at": at,
                }
                for message in messages
            ]
        )
        finished = ("exhausted", "discarded") if only_failed else ("exhausted", "discarded", "delivered")
        again = fresh.on_conflict_do_update(
            index_elements=[WebhookDelivery.message_id, WebhookDelivery.endpoint_id],
            set_={
                "status": "pending",
                "attempts": 0,
                "next_attempt_at": at,
                "resource": fresh.excluded.resource,
                "position": fresh.excluded.position,
            },
            where=WebhookDelivery.status.in_(finished),
        )
        return len(self._tx.execute(again.returning(WebhookDelivery.message_id)).all())

    def get(self, endpoint_id: str, message_id: str, *, lock: bool = False) -> WebhookDelivery | None:
        """The delivery of a message to an endpoint, read afresh."""
        query = select(WebhookDelivery).where(
            WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.message_id == message_id
        )
        query = query.with_for_update() if lock else query
        return self._tx.scalar(query.execution_options(populate_existing=True))

    def whole(self, endpoint_id: str, message_id: str) -> Delivery | None:
        """The delivery with message and attempts."""
        found = self._whole(self._listed().where(_is(endpoint_id, message_id)))
        return found[0] if found else None

    def page(self, endpoint_id: str, status: str | None, wanted: MessageFilter, page: Page) -> Slice[Delivery]:
        """The endpoint's deliveries, newest message first."""
        query = self._listed().where(WebhookDelivery.endpoint_id == endpoint_id, *wanted.conditions())
        if status is not None:
            query = query.where(WebhookDelivery.status == status)
        query = keyset(query, page, WebhookMessage.created_at, WebhookMessage.id)
        return page_of(self._whole(query), page, lambda one: (one.message.created_at, one.message.id))

    def of_message(self, message_id: str, page: Page) -> Slice[Delivery]:
        """The message's deliveries, those to the newest endpoints first."""
        query = self._listed().where(WebhookDelivery.message_id == message_id)
        query = keyset(query, page, WebhookEndpoint.created_at, WebhookEndpoint.id)
        return page_of(self._whole(query), page, lambda one: (one.endpoint.created_at, one.endpoint.id))

    def _listed(self) -> Select[WebhookDelivery, WebhookMessage, WebhookEndpoint]:
        return (
            select(WebhookDelivery, WebhookMessage, WebhookEndpoint)
            .join(WebhookMessage, WebhookMessage.id == WebhookDelivery.message_id)
            .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
            .execution_options(populate_existing=True)
        )

    def _whole(self, query: Select[WebhookDelivery, WebhookMessage, WebhookEndpoint]) -> Sequence[Delivery]:
        rows = self._tx.execute(query).all()
        attempts = self._attempts([(row.message_id, row.endpoint_id) for row, _, _ in rows])
        return [
            Delivery(row, message, endpoint, attempts.get((row.message_id, row.endpoint_id), ()))
            for row, message, endpoint in rows
        ]

    def _attempts(self, deliveries: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], tuple[WebhookAttempt, ...]]:
        place = tuple_(WebhookAttempt.message_id, WebhookAttempt.endpoint_id)
        found: dict[tuple[str, str], tuple[WebhookAttempt, ...]] = {}
        for attempt in self._tx.scalars(
            select(WebhookAttempt).where(place.in_(deliveries)).order_by(WebhookAttempt.id)
        ):
            key = (attempt.message_id, attempt.endpoint_id)
            found[key] = (*found.get(key, ()), attempt)
        return found

    def claim(self, room: Room, *, at: datetime, until: datetime) -> Sequence[Due]:
        """Take due deliveries for which there is room, one of each endpoint before a second of any.

        A message waits while an earlier one about the same thing has not been tried; one that failed holds up nobody.
        They are due again at ``until``: a sender that dies in between repeats them.
        """
        row, endpoint = WebhookDelivery, WebhookEndpoint
        # Once, before all else: a planner that expects one due row would look for it anew with each of thousands.
        chosen = self._chosen(room, at).cte("chosen").prefix_with("MATERIALIZED")
        # A row that another sender has just taken fails the condition when Postgres looks at it again under the lock.
        query = (
            select(row, endpoint, WebhookMessage.body)
            .join(endpoint, endpoint.id == row.endpoint_id)
            .join(WebhookMessage, WebhookMessage.id == row.message_id)
            .join(chosen, and_(chosen.c.message_id == row.message_id, chosen.c.id == row.endpoint_id))
            .where(row.status == "pending")
            .where(row.next_attempt_at <= at, endpoint.enabled, endpoint.deleted_at.is_(None))
            .with_for_update(of=row, skip_locked=True)
        )
        taken = self._tx.execute(query).all()
        for delivery, _, _ in taken:
            delivery.next_attempt_at = until
        self._tx.flush()
        old = self._old_keys({target.id for _, target, _ in taken}, at)
        return [_due(delivery, target, body, old.get(target.id, ())) for delivery, target, body in taken]

    def _chosen(self, room: Room, at: datetime) -> Select[str, str]:
        # Endpoint by endpoint along an index, which ends after the first few: however much waits, and whatever the
        # planner believes of it, this stays quick.
        row, endpoint, untried = WebhookDelivery, WebhookEndpoint, aliased(WebhookDelivery)
        first_untried = (
            select(untried.position)
            .where(untried.endpoint_id == row.endpoint_id, untried.resource == row.resource)
            .where(untried.status == "pending", untried.attempts == 0)
            .order_by(untried.position)
            .limit(1)
            .scalar_subquery()
        )
        due = (
            select(row.message_id, row.priority, row.next_attempt_at, row.position)
            .where(row.endpoint_id == endpoint.id, row.status == "pending", row.next_attempt_at <= at)
            .where(or_(row.position.is_(None), func.coalesce(first_untried, row.position) >= row.position))
            .order_by(row.priority, row.next_attempt_at, row.position)
            .limit(room.each)
            .correlate(endpoint)
            .lateral("due")
        )
        order = (due.c.priority, due.c.next_attempt_at, due.c.position)
        place = func.row_number().over(partition_by=endpoint.id, order_by=order).label("place")
        ranked = (
            select(
                due.c.message_id, endpoint.id, due.c.next_attempt_at, place, room.left_for(endpoint.id).label("room")
            )
            .join(due, true())
            .where(endpoint.enabled, endpoint.deleted_at.is_(None), endpoint.healthy.is_(not room.suspects))
            .where(func.coalesce(endpoint.paused_until, at) <= at)
            .subquery()
        )
        return (
            select(ranked.c.message_id, ranked.c.id)
            .where(ranked.c.place <= ranked.c.room)
            .order_by(ranked.c.place, ranked.c.next_attempt_at)
            .limit(room.limit)
        )

    def _old_keys(self, endpoint_ids: Iterable[str], at: datetime) -> Mapping[str, tuple[SealedKey, ...]]:
        query = (
            select(WebhookOldKey)
            .where(WebhookOldKey.endpoint_id.in_(endpoint_ids), WebhookOldKey.signs_until > at)
            .order_by(WebhookOldKey.id.desc())
        )
        found: dict[str, tuple[SealedKey, ...]] = {}
        for key in self._tx.scalars(query):
            sealed = SealedKey(key.algorithm, key.sealed_secret, key.signs_until)
            found[key.endpoint_id] = (*found.get(key.endpoint_id, ()), sealed)
        return found

    def log(self, due: Due, **outcome: Any) -> None:
        """Note an attempt."""
        self._tx.add(WebhookAttempt(message_id=due.message_id, endpoint_id=due.endpoint_id, **outcome))
        self._tx.flush()

    def settle(self, due: Due, *, status: str, next_attempt_at: datetime | None, delivered_at: datetime | None) -> bool:
        """Write the outcome of the attempt, unless the delivery has moved on since it was claimed (then False)."""
        change = (
            update(WebhookDelivery)
            .where(
                _is(due.endpoint_id, due.message_id),
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

    def discard_pending(self, endpoint_id: str) -> int:
        """Send nothing that waits for the endpoint; says how many there were."""
        change = (
            update(WebhookDelivery)
            .where(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.status == "pending")
            .values(status="discarded", next_attempt_at=None)
            .returning(WebhookDelivery.message_id)
        )
        return len(self._tx.execute(change.execution_options(synchronize_session=False)).all())

    def waiting(self, endpoint_id: str, *, most: int) -> int:
        """How many wait for the endpoint, counted up to ``most``."""
        pending = select(literal(1)).where(
            WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.status == "pending"
        )
        return self._tx.execute(select(func.count()).select_from(pending.limit(most).subquery())).scalar_one()

    def stats(self, endpoint_id: str, since: datetime) -> Stats:
        """How the endpoint's attempts since then went, and what waits for it."""
        success = WebhookAttempt.status_code.between(200, 299)
        latency = WebhookAttempt.latency_ms
        attempts, successes, median, p95 = self._tx.execute(
            select(
                func.count(),
                func.count(case((success, 1))),
                func.percentile_cont(0.5).within_group(latency),
                func.percentile_cont(0.95).within_group(latency),
            ).where(WebhookAttempt.endpoint_id == endpoint_id, WebhookAttempt.at >= since)
        ).one()
        backlog, oldest = self._tx.execute(
            select(func.count(), func.min(WebhookMessage.created_at))
            .select_from(WebhookDelivery)
            .join(WebhookMessage, WebhookMessage.id == WebhookDelivery.message_id)
            .where(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.status == "pending")
        ).one()
        return Stats(attempts, successes, median, p95, backlog, oldest)

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


def _is(endpoint_id: str, message_id: str) -> Any:
    return and_(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.message_id == message_id)


def _due(delivery: WebhookDelivery, endpoint: WebhookEndpoint, body: bytes, old: tuple[SealedKey, ...]) -> Due:
    return Due(
        delivery.message_id,
        delivery.endpoint_id,
        delivery.attempts,
        endpoint.url,
        body,
        (SealedKey(endpoint.algorithm, endpoint.sealed_secret), *old),
        endpoint.sealed_headers,
        not endpoint.healthy,
    )
