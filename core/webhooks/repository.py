"""All SQL about webhook endpoints, messages and replays."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from core.platform.paging import Page, Slice, keyset, page_of
from core.webhooks.tables import WebhookEndpoint, WebhookMessage, WebhookOldKey, WebhookReplay


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
        query = query.with_for_update().execution_options(populate_existing=True) if lock else query
        return self._tx.scalar(query)

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

    def note_success(self, endpoint_id: str) -> None:
        """It answers: writes nothing where that was known."""
        endpoint = WebhookEndpoint
        change = (
            update(endpoint)
            .where(endpoint.id == endpoint_id, or_(~endpoint.healthy, endpoint.failing_since.is_not(None)))
            .values(healthy=True, failing_since=None)
        )
        self._tx.execute(change.execution_options(synchronize_session=False))

    def note_failure(
        self, endpoint_id: str, *, at: datetime, ours: bool, paused_until: datetime | None
    ) -> datetime | None:
        """It failed, or we did; says since when nothing but its own failures is known. A pause only grows."""
        endpoint = WebhookEndpoint
        since = None if ours else func.coalesce(endpoint.failing_since, at)
        pause = func.greatest(endpoint.paused_until, paused_until) if paused_until else endpoint.paused_until
        change = (
            update(endpoint)
            .where(endpoint.id == endpoint_id)
            .values(healthy=False, failing_since=since, paused_until=pause)
            .returning(endpoint.failing_since)
        )
        return self._tx.scalar(change.execution_options(synchronize_session=False))

    def retire_key(self, endpoint: WebhookEndpoint, *, until: datetime, most: int) -> None:
        """Let the endpoint's present key sign on until then; the oldest beyond ``most`` are dropped."""
        self._tx.add(
            WebhookOldKey(
                endpoint_id=endpoint.id,
                algorithm=endpoint.algorithm,
                sealed_secret=endpoint.sealed_secret,
                signs_until=until,
            )
        )
        self._tx.flush()
        newest = (
            select(WebhookOldKey.id)
            .where(WebhookOldKey.endpoint_id == endpoint.id)
            .order_by(WebhookOldKey.id.desc())
            .limit(most)
        )
        self._tx.execute(
            delete(WebhookOldKey).where(WebhookOldKey.endpoint_id == endpoint.id, WebhookOldKey.id.not_in(newest))
        )

    def forget_old_keys(self, endpoint_id: str) -> None:
        """None but the present key signs any more."""
        self._tx.execute(delete(WebhookOldKey).where(WebhookOldKey.endpoint_id == endpoint_id))

    def drop_old_keys(self, before: datetime) -> None:
        """Forget keys of every endpoint that ceased to sign before then."""
        self._tx.execute(delete(WebhookOldKey).where(WebhookOldKey.signs_until < before))


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages are wanted; None: any."""

    type: str | None = None
    """Exact, or a prefix such as ``run.*``."""
    created_after: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> Sequence[Any]:
        """As SQL conditions."""
        wanted: list[Any] = []
        if self.type is not None and self.type != "*":
            area = self.type.removesuffix(".*")
            exact = WebhookMessage.type == self.type
            wanted.append(exact if area == self.type else WebhookMessage.type.startswith(f"{area}.", autoescape=True))
        if self.created_after is not None:
            wanted.append(WebhookMessage.created_at > self.created_after)
        if self.created_before is not None:
            wanted.append(WebhookMessage.created_at < self.created_before)
        return wanted


class Messages:
    """Events as they are sent and can be read: every event is kept, whether or not anybody listens."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def add(self, message: WebhookMessage) -> WebhookMessage:
        """Insert it; its place in the order and its time are the database's."""
        message.created_at = func.clock_timestamp()  # the transaction's time is the same for a whole batch of events
        self._tx.add(message)
        self._tx.flush()
        return message

    def get(self, workspace_id: str, message_id: str) -> WebhookMessage | None:
        """An event of the workspace; no test."""
        query = select(WebhookMessage).where(WebhookMessage.id == message_id, *_events(workspace_id))
        return self._tx.scalar(query)

    def page(
        self, workspace_id: str, wanted: MessageFilter, page: Page, *, newest_first: bool
    ) -> Slice[WebhookMessage]:
        """Events of the workspace."""
        query = select(WebhookMessage).where(*_events(workspace_id), *wanted.conditions())
        query = keyset(query, page, WebhookMessage.created_at, WebhookMessage.id, newest_first=newest_first)
        return page_of(self._tx.scalars(query).all(), page, lambda message: (message.created_at, message.id))

    def count(self, workspace_id: str, since: datetime, until: datetime) -> int:
        """How many events there are in a span of time."""
        query = select(func.count()).select_from(WebhookMessage)
        return self._tx.execute(query.where(*_events(workspace_id), _within(since, until))).scalar_one()

    def following(
        self, workspace_id: str, position: int, since: datetime, until: datetime, limit: int
    ) -> Sequence[WebhookMessage]:
        """The next events of a span of time after a place in the order."""
        query = (
            select(WebhookMessage)
            .where(*_events(workspace_id), _within(since, until), WebhookMessage.position > position)
            .order_by(WebhookMessage.position)
            .limit(limit)
        )
        return self._tx.scalars(query).all()


class Replays:
    """Jobs that send events again."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def add(self, replay: WebhookReplay) -> WebhookReplay:
        """Insert it. Raises ``IntegrityError`` while another one of the endpoint is running."""
        self._tx.add(replay)
        self._tx.flush()
        return replay

    def get(self, endpoint_id: str, replay_id: str) -> WebhookReplay | None:
        """The endpoint's replay of that id."""
        query = select(WebhookReplay).where(WebhookReplay.id == replay_id, WebhookReplay.endpoint_id == endpoint_id)
        return self._tx.scalar(query)

    def page(self, endpoint_id: str, page: Page) -> Slice[WebhookReplay]:
        """The endpoint's replays, newest first."""
        query = select(WebhookReplay).where(WebhookReplay.endpoint_id == endpoint_id)
        query = keyset(query, page, WebhookReplay.created_at, WebhookReplay.id)
        return page_of(self._tx.scalars(query).all(), page, lambda replay: (replay.created_at, replay.id))

    def running(self) -> Sequence[tuple[str, str]]:
        """Replays that are not done, and their endpoints, the oldest first."""
        query = select(WebhookReplay.id, WebhookReplay.endpoint_id).where(WebhookReplay.status == "running")
        return [(row.id, row.endpoint_id) for row in self._tx.execute(query.order_by(WebhookReplay.id))]

    def locked(self, replay_id: str) -> WebhookReplay | None:
        """The replay while it is running, read afresh and locked; None also while somebody else has it."""
        query = select(WebhookReplay).where(WebhookReplay.id == replay_id, WebhookReplay.status == "running")
        query = query.with_for_update(skip_locked=True).execution_options(populate_existing=True)
        return self._tx.scalar(query)

    def stop(self, endpoint_id: str, at: datetime) -> None:
        """End the endpoint's running replay, if there is one."""
        replay = WebhookReplay
        change = update(replay).where(replay.endpoint_id == endpoint_id, replay.status == "running")
        change = change.values(status="stopped", finished_at=at).execution_options(synchronize_session=False)
        self._tx.execute(change)

    def expire(self, before: datetime) -> None:
        """Forget replays that ended before then."""
        self._tx.execute(delete(WebhookReplay).where(WebhookReplay.finished_at < before))


def _events(workspace_id: str) -> tuple[Any, ...]:
    return (WebhookMessage.workspace_id == workspace_id, ~WebhookMessage.test)


def _within(since: datetime, until: datetime) -> Any:
    return and_(WebhookMessage.created_at >= since, WebhookMessage.created_at < until)
