"""Events as messages: made once, kept for 30 days, sent to whom they concern, and there to be read."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy.orm import Session

from core.access.sandboxes import is_sandbox
from core.platform.clock import rfc3339
from core.platform.errors import NotFound
from core.platform.ids import new_id
from core.platform.outbox import OutboxMessage
from core.platform.paging import Page, Slice
from core.webhooks.catalogue import API_VERSION, EventType, event_type, matches
from core.webhooks.deliveries import Deliveries, Delivery
from core.webhooks.repository import Endpoints, MessageFilter, Messages, Replays
from core.webhooks.tables import WebhookMessage

LOG_KEPT_FOR: Final = timedelta(days=30)
LONGEST_BODY_BYTES: Final = 20_000
_LONGEST_LIST: Final = 100


class EventNotFound(NotFound):
    """There is no such event in the workspace, or it is no longer kept."""

    code = "event_not_found"


def fan_out(tx: Session, message: OutboxMessage) -> int:
    """Keep an event of the outbox as a message, with a delivery for each endpoint that wants it; says how many.

    The relay calls it in the transaction that marks the outbox row as sent. The body's bytes are fixed here.
    """
    if message.workspace_id is None:
        return 0
    happened = rfc3339(datetime.fromisoformat(message.payload["at"]))
    made = make(
        tx,
        message.workspace_id,
        message.name,
        message.payload["data"],
        happened=happened,
        test=is_sandbox(message.workspace_id),
    )
    wanting = [
        endpoint.id
        for endpoint in Endpoints(tx).listening(message.workspace_id)
        if matches(endpoint.events, message.name)
    ]
    Deliveries(tx).add(made, wanting, made.created_at)
    return len(wanting)


def make(
    tx: Session, workspace_id: str, type_name: str, data: Mapping[str, Any], *, happened: str, test: bool = False
) -> WebhookMessage:
    """A message that nobody is sent yet."""
    message_id = new_id("msg")
    content = {
        "id": message_id,
        "type": type_name,
        "timestamp": happened,
        "api_version": API_VERSION,
        "test": test,
        "data": thin(data),
    }
    body = _encoded(content)
    kind = event_type(type_name)
    if len(body) >= LONGEST_BODY_BYTES and kind is not None:
        body = _encoded({**content, "data": _bare(kind, data)})
    resource = data.get("id")
    return Messages(tx).add(
        WebhookMessage(
            id=message_id, workspace_id=workspace_id, type=type_name, resource=resource, body=body, test=test
        )
    )


def thin(data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with its long lists cut; ``truncated`` then says how long each of them is."""
    long = {name: length for name, value in data.items() if (length := _length(value) or 0) > _LONGEST_LIST}
    cut = {name: value[:_LONGEST_LIST] if name in long else value for name, value in data.items()}
    return {**cut, "truncated": long} if long else cut


def _bare(kind: EventType, data: Mapping[str, Any]) -> dict[str, Any]:
    """Only what every event of the type has; ``truncated`` names the rest, which is to be fetched from the API."""
    dropped = {name: _length(value) for name, value in data.items() if name not in kind.required}
    return {**{name: data[name] for name in kind.required if name in data}, "truncated": dropped}


def _length(value: Any) -> int | None:
    return len(cast(list[Any], value)) if isinstance(value, list) else None


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def get(tx: Session, *, workspace_id: str, message_id: str) -> WebhookMessage:
    """One event. Raises ``EventNotFound``."""
    message = Messages(tx).get(workspace_id, message_id)
    if message is None:
        raise EventNotFound("There is no such event, or it is no longer kept.")
    return message


def list_events(
    tx: Session, *, workspace_id: str, wanted: MessageFilter, page: Page, newest_first: bool
) -> Slice[WebhookMessage]:
    """The workspace's events, whether or not an endpoint heard of them."""
    return Messages(tx).page(workspace_id, wanted, page, newest_first=newest_first)


def deliveries_of(tx: Session, *, workspace_id: str, message_id: str, page: Page) -> Slice[Delivery]:
    """What became of an event at each endpoint that it was addressed to. Raises ``EventNotFound``."""
    return Deliveries(tx).of_message(get(tx, workspace_id=workspace_id, message_id=message_id).id, page)


def expire(tx: Session, *, at: datetime) -> int:
    """Forget messages, deliveries, attempts and replays older than ``LOG_KEPT_FOR``; says how many messages."""
    Endpoints(tx).drop_old_keys(at)
    Replays(tx).expire(at - LOG_KEPT_FOR)
    return Deliveries(tx).expire(at - LOG_KEPT_FOR)
