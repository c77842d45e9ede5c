"""Sending an endpoint the events of a span of time again: a job, carried out portion by portion.

Each portion is one transaction that also notes how far the job has got, so a process that dies repeats at most what
it had not committed. The endpoint's queue is topped up and never flooded, and one job runs at a time for each endpoint.
"""

from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.platform.errors import Conflict, InvalidInput, NotFound, Problem
from core.platform.ids import new_id
from core.platform.paging import Page, Slice
from core.webhooks import service
from core.webhooks.catalogue import matches
from core.webhooks.deliveries import Deliveries
from core.webhooks.messages import LOG_KEPT_FOR
from core.webhooks.repository import Endpoints, Messages, Replays
from core.webhooks.tables import WebhookEndpoint, WebhookReplay

PORTION: Final = 200
LONGEST_QUEUE: Final = 1000
"""A replay adds nothing while so many wait for the endpoint."""


class ReplayNotFound(NotFound):
    """The endpoint has no such replay, or it is no longer kept."""

    code = "webhook_replay_not_found"


class ReplayRunning(Conflict):
    """A replay of this endpoint is running: the next one can start when it has ended."""

    code = "webhook_replay_running"


def start(
    tx: Session,
    *,
    workspace_id: str,
    endpoint_id: str,
    since: datetime,
    until: datetime | None,
    only_failed: bool,
    actor: str,
    at: datetime,
) -> WebhookReplay:
    """Send the endpoint the events of ``since`` ≤ time < ``until`` (at most now) that it wants by its patterns.

    With ``only_failed`` none that was delivered there. What happened while the endpoint was disabled or did not exist
    counts as not delivered. Raises ``EndpointNotFound``, ``EndpointDisabled``, ``ReplayRunning`` and ``InvalidInput``.
    """
    endpoint = service.enabled(service.get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id, lock=True))
    end = at if until is None else min(until, at)
    _check(since, end, at)
    replay = WebhookReplay(
        id=new_id("rpl"),
        endpoint_id=endpoint.id,
        status="running",
        since=since,
        until=end,
        only_failed=only_failed,
        after_position=0,
        total=Messages(tx).count(workspace_id, since, end),
        examined=0,
        queued=0,
        created_at=at,
    )
    try:
        with tx.begin_nested():
            Replays(tx).add(replay)
    except IntegrityError:
        raise ReplayRunning("A replay of this endpoint is running; wait for its end.") from None
    details = {"replay_id": replay.id, "events": replay.total, "only_failed": only_failed}
    service.note(tx, endpoint, "replay_started", details, actor, at)
    return replay


def get(tx: Session, *, workspace_id: str, endpoint_id: str, replay_id: str) -> WebhookReplay:
    """One replay. Raises ``EndpointNotFound`` and ``ReplayNotFound``."""
    service.get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id)
    replay = Replays(tx).get(endpoint_id, replay_id)
    if replay is None:
        raise ReplayNotFound("There is no such replay.")
    return replay


def list_replays(tx: Session, *, workspace_id: str, endpoint_id: str, page: Page) -> Slice[WebhookReplay]:
    """The endpoint's replays, newest first. Raises ``EndpointNotFound``."""
    service.get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id)
    return Replays(tx).page(endpoint_id, page)


def carry_on(tx: Session, replay_id: str, endpoint_id: str, *, at: datetime) -> int:
    """The replay's next portion; says how many events were looked at. 0: it has ended, or the queue is full."""
    endpoint = Endpoints(tx).locked(endpoint_id)  # before the replay, as whoever disables it does
    replay = Replays(tx).locked(replay_id)
    if endpoint is None or replay is None:
        return 0
    room = LONGEST_QUEUE - Deliveries(tx).waiting(endpoint_id, most=LONGEST_QUEUE)
    if room <= 0:
        return 0
    return _portion(tx, replay, endpoint, min(room, PORTION), at)


def _portion(tx: Session, replay: WebhookReplay, endpoint: WebhookEndpoint, limit: int, at: datetime) -> int:
    found = Messages(tx).following(endpoint.workspace_id, replay.after_position, replay.since, replay.until, limit)
    wanted = [message for message in found if matches(endpoint.events, message.type)]
    replay.queued += Deliveries(tx).add_again(endpoint.id, wanted, only_failed=replay.only_failed, at=at)
    replay.examined += len(found)
    if found:
        replay.after_position = found[-1].position
    if len(found) < limit:
        replay.status, replay.finished_at = "completed", at
    tx.flush()
    return len(found)


def _check(since: datetime, until: datetime, at: datetime) -> None:
    problems: list[Problem] = []
    if since >= until:
        problems.append(Problem("/since", "empty_span", "It must be before until and before now."))
    if since < at - LOG_KEPT_FOR:
        problems.append(Problem("/since", "too_old", f"Events are kept for {LOG_KEPT_FOR.days} days."))
    if problems:
        raise InvalidInput("The span of time is not acceptable.", problems)
