"""Webhook endpoints: registering, changing, rotating secrets, testing, retrying; and events becoming messages."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from core.access import audit
from core.platform.clock import rfc3339
from core.platform.errors import Conflict, InvalidInput, NotFound, Problem
from core.platform.ids import new_id
from core.platform.outbox import OutboxMessage
from core.platform.paging import Page, Slice
from core.platform.resealing import Sealed
from core.platform.secrets import Keyring
from core.webhooks import signing
from core.webhooks.addresses import Rules, check_url
from core.webhooks.catalogue import API_VERSION, check_patterns, event_type, matches
from core.webhooks.repository import Deliveries, Delivery, Endpoints
from core.webhooks.tables import WebhookEndpoint, WebhookMessage

PURPOSE: Final = "webhook-secret"
LOG_KEPT_FOR: Final = timedelta(days=30)
SEALED: Final = (
    Sealed(WebhookEndpoint, WebhookEndpoint.sealed_secret, PURPOSE),
    Sealed(WebhookEndpoint, WebhookEndpoint.sealed_previous_secret, PURPOSE),
)
"""What this slice keeps sealed."""


class EndpointNotFound(NotFound):
    """There is no such webhook endpoint in the workspace."""

    code = "webhook_endpoint_not_found"


class DeliveryNotFound(NotFound):
    """This message was not addressed to this endpoint, or the log of it is no longer kept."""

    code = "webhook_delivery_not_found"


class EndpointDisabled(Conflict):
    """Nothing is sent to a disabled endpoint: enable it first."""

    code = "webhook_endpoint_disabled"


@dataclass(frozen=True, slots=True)
class WithSecret:
    """An endpoint and its signing secret as receivers are given it."""

    endpoint: WebhookEndpoint
    secret: str


def create(
    tx: Session,
    *,
    workspace_id: str,
    url: str,
    events: Iterable[str],
    description: str | None,
    rules: Rules,
    keyring: Keyring,
    actor: str,
    at: datetime,
) -> WithSecret:
    """Register an endpoint; the secret is in the answer and afterwards only sealed.

    Raises ``InvalidInput`` for an address that may not be called or an event that does not exist.
    """
    secret = signing.new_secret()
    endpoint = WebhookEndpoint(
        id=new_id("whe"),
        workspace_id=workspace_id,
        url=check_url(url, rules),
        events=list(check_patterns(events)),
        description=description,
        enabled=True,
        sealed_secret=keyring.seal(PURPOSE, secret),
        created_at=at,
        updated_at=at,
    )
    Endpoints(tx).add(endpoint)
    _note(tx, endpoint, "created", {"events": endpoint.events}, actor, at)
    return WithSecret(endpoint, signing.shown(secret))


def get(tx: Session, *, workspace_id: str, endpoint_id: str) -> WebhookEndpoint:
    """The endpoint. Raises ``EndpointNotFound``."""
    return _found(Endpoints(tx).get(workspace_id, endpoint_id))


def list_endpoints(tx: Session, *, workspace_id: str, page: Page) -> Slice[WebhookEndpoint]:
    """The workspace's endpoints, newest first."""
    return Endpoints(tx).page(workspace_id, page)


def change(
    tx: Session,
    *,
    workspace_id: str,
    endpoint_id: str,
    changes: Mapping[str, Any],
    rules: Rules,
    actor: str,
    at: datetime,
) -> WebhookEndpoint:
    """Change ``url``, ``events``, ``description`` or ``enabled``. Disabling discards what waits for the endpoint.

    Raises ``EndpointNotFound`` and ``InvalidInput``.
    """
    endpoint = _found(Endpoints(tx).get(workspace_id, endpoint_id, lock=True))
    if "url" in changes:
        endpoint.url = check_url(changes["url"], rules)
    if "events" in changes:
        endpoint.events = list(check_patterns(changes["events"]))
    if "description" in changes:
        endpoint.description = changes["description"]
    if "enabled" in changes and changes["enabled"] != endpoint.enabled:
        endpoint.enabled = changes["enabled"]
        endpoint.disabled_reason = None if endpoint.enabled else "by request"
        if not endpoint.enabled:
            Deliveries(tx).discard_pending(endpoint.id)
    endpoint.updated_at = at
    tx.flush()
    _note(tx, endpoint, "changed", {"fields": sorted(changes)}, actor, at)
    return endpoint


def remove(tx: Session, *, workspace_id: str, endpoint_id: str, actor: str, at: datetime) -> None:
    """Delete the endpoint and forget its secrets. Raises ``EndpointNotFound``."""
    endpoint = _found(Endpoints(tx).get(workspace_id, endpoint_id, lock=True))
    endpoint.deleted_at = endpoint.updated_at = at
    endpoint.enabled = False
    endpoint.sealed_secret = b""
    endpoint.sealed_previous_secret = endpoint.previous_secret_until = None
    tx.flush()
    Deliveries(tx).discard_pending(endpoint.id)
    _note(tx, endpoint, "deleted", {}, actor, at)


def rotate_secret(
    tx: Session, *, workspace_id: str, endpoint_id: str, grace_s: int, keyring: Keyring, actor: str, at: datetime
) -> WithSecret:
    """A new secret; for ``grace_s`` seconds messages are signed with the old one too, new first.

    Raises ``EndpointNotFound``.
    """
    endpoint = _found(Endpoints(tx).get(workspace_id, endpoint_id, lock=True))
    secret = signing.new_secret()
    endpoint.sealed_previous_secret = endpoint.sealed_secret if grace_s else None
    endpoint.previous_secret_until = at + timedelta(seconds=grace_s) if grace_s else None
    endpoint.sealed_secret = keyring.seal(PURPOSE, secret)
    endpoint.updated_at = at
    tx.flush()
    _note(tx, endpoint, "secret_rotated", {"grace_s": grace_s}, actor, at)
    return WithSecret(endpoint, signing.shown(secret))


def send_test(
    tx: Session, *, workspace_id: str, endpoint_id: str, type_name: str, actor: str, at: datetime
) -> Delivery:
    """Put a sample message, flagged ``test``, on its way to this endpoint alone.

    Raises ``EndpointNotFound``, ``EndpointDisabled`` and, for an event that does not exist, ``InvalidInput``.
    """
    endpoint = _enabled(get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id))
    kind = event_type(type_name)
    if kind is None:
        raise InvalidInput("There is no such event.", [Problem("/type", "unknown_event", "No event is of this type.")])
    message = _message(workspace_id, type_name, kind.example, happened=rfc3339(at), at=at, test=True)
    Deliveries(tx).add(message, [endpoint.id], at)
    _note(tx, endpoint, "tested", {"message_id": message.id}, actor, at)
    return delivery(tx, workspace_id=workspace_id, endpoint_id=endpoint_id, message_id=message.id)


def delivery(tx: Session, *, workspace_id: str, endpoint_id: str, message_id: str) -> Delivery:
    """One delivery with its attempts. Raises ``EndpointNotFound`` and ``DeliveryNotFound``."""
    get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id)
    whole = Deliveries(tx).whole(endpoint_id, message_id)
    if whole is None:
        raise DeliveryNotFound("This message was not addressed to this endpoint.")
    return whole


def list_deliveries(
    tx: Session, *, workspace_id: str, endpoint_id: str, status: str | None, page: Page
) -> Slice[Delivery]:
    """The endpoint's deliveries with their attempts, newest first. Raises ``EndpointNotFound``."""
    get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id)
    return Deliveries(tx).page(endpoint_id, status, page)


def retry(tx: Session, *, workspace_id: str, endpoint_id: str, message_id: str, actor: str, at: datetime) -> Delivery:
    """Send the message once more, now; works for delivered ones too. Same id, new timestamp.

    Raises ``EndpointNotFound``, ``EndpointDisabled`` and ``DeliveryNotFound``.
    """
    endpoint = _enabled(get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id))
    row = Deliveries(tx).get(endpoint_id, message_id, lock=True)
    if row is None:
        raise DeliveryNotFound("This message was not addressed to this endpoint.")
    row.status, row.next_attempt_at = "pending", at
    tx.flush()
    _note(tx, endpoint, "delivery_retried", {"message_id": message_id}, actor, at)
    return delivery(tx, workspace_id=workspace_id, endpoint_id=endpoint_id, message_id=message_id)


def fan_out(tx: Session, message: OutboxMessage) -> int:
    """Turn an event of the outbox into a message and one delivery for each endpoint that wants it; says how many.

    The relay calls it in the transaction that marks the outbox row as sent. The body's bytes are fixed here.
    """
    if message.workspace_id is None:
        return 0
    wanting = [
        endpoint.id
        for endpoint in Endpoints(tx).listening(message.workspace_id)
        if matches(endpoint.events, message.name)
    ]
    if wanting:
        happened = rfc3339(datetime.fromisoformat(message.payload["at"]))
        made = _message(
            message.workspace_id, message.name, message.payload["data"], happened=happened, at=message.created_at
        )
        Deliveries(tx).add(made, wanting, message.created_at)
    return len(wanting)


def expire(tx: Session, *, at: datetime) -> int:
    """Forget messages, deliveries and attempts older than ``LOG_KEPT_FOR``; says how many messages there were."""
    return Deliveries(tx).expire(at - LOG_KEPT_FOR)


def _message(
    workspace_id: str, type_name: str, data: Mapping[str, Any], *, happened: str, at: datetime, test: bool = False
) -> WebhookMessage:
    message_id = new_id("msg")
    content = {
        "id": message_id,
        "type": type_name,
        "timestamp": happened,
        "api_version": API_VERSION,
        "test": test,
        "data": dict(data),
    }
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return WebhookMessage(id=message_id, workspace_id=workspace_id, type=type_name, body=body, test=test, created_at=at)


def _found(endpoint: WebhookEndpoint | None) -> WebhookEndpoint:
    if endpoint is None:
        raise EndpointNotFound("There is no such webhook endpoint.")
    return endpoint


def _enabled(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    if not endpoint.enabled:
        raise EndpointDisabled("The endpoint is disabled; enable it first.")
    return endpoint


def _note(
    tx: Session, endpoint: WebhookEndpoint, happened: str, details: Mapping[str, Any], actor: str, at: datetime
) -> None:
    audit.note(
        tx,
        workspace_id=endpoint.workspace_id,
        actor=actor,
        action=f"webhook_endpoint.{happened}",
        object_id=endpoint.id,
        details=details,
        at=at,
    )
