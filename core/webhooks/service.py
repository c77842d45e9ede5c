"""Webhook endpoints: registering, changing, keys, disabling; test messages, the delivery log, sending once more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from core.access import audit
from core.platform.clock import rfc3339
from core.platform.errors import Conflict, InvalidInput, NotFound, Problem
from core.platform.ids import new_id
from core.platform.outbox import put_event
from core.platform.paging import Page, Slice
from core.platform.resealing import Sealed
from core.platform.secrets import Keyring
from core.webhooks import messages, signing, static_headers
from core.webhooks.addresses import Rules, check_url
from core.webhooks.catalogue import check_patterns, event_type
from core.webhooks.deliveries import Deliveries, Delivery, Stats
from core.webhooks.repository import Endpoints, MessageFilter, Replays
from core.webhooks.signing import Algorithm, Key
from core.webhooks.tables import WebhookEndpoint, WebhookOldKey

PURPOSE: Final = "webhook-secret"
MOST_OLD_KEYS: Final = 10
BY_REQUEST: Final = "by request"
SEALED: Final = (
    Sealed(WebhookEndpoint, WebhookEndpoint.sealed_secret, PURPOSE),
    Sealed(WebhookEndpoint, WebhookEndpoint.sealed_headers, static_headers.PURPOSE),
    Sealed(WebhookEndpoint, WebhookEndpoint.sealed_previous_secret, PURPOSE),
    Sealed(WebhookOldKey, WebhookOldKey.sealed_secret, PURPOSE),
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
class WithKey:
    """An endpoint, the key that signs for it, and its static headers, all of which no other answer holds."""

    endpoint: WebhookEndpoint
    key: Key
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """What an endpoint is to be. Without ``secret`` a key is made."""

    url: str
    events: Iterable[str] = ()
    description: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    enabled: bool = True
    algorithm: Algorithm = Algorithm.HMAC
    secret: str | None = None


def create(
    tx: Session, *, workspace_id: str, wanted: NewEndpoint, rules: Rules, keyring: Keyring, actor: str, at: datetime
) -> WithKey:
    """Register an endpoint; the secret is in the answer and afterwards only sealed.

    Raises ``InvalidInput`` for an address that may not be called, an event that does not exist, a header that may not
    be sent, or a secret of the wrong form.
    """
    key, headers = _key(wanted.secret, wanted.algorithm), static_headers.check(wanted.headers)
    endpoint = WebhookEndpoint(
        id=new_id("whe"),
        workspace_id=workspace_id,
        url=check_url(wanted.url, rules),
        events=list(check_patterns(wanted.events)),
        description=wanted.description,
        metadata_=dict(wanted.metadata),
        enabled=wanted.enabled,
        disabled_reason=None if wanted.enabled else BY_REQUEST,
        algorithm=key.algorithm,
        sealed_secret=keyring.seal(PURPOSE, key.material),
        sealed_headers=static_headers.seal(headers, keyring),
        header_names=list(headers),
        created_at=at,
        updated_at=at,
    )
    Endpoints(tx).add(endpoint)
    note(tx, endpoint, "created", {"events": endpoint.events, "algorithm": endpoint.algorithm}, actor, at)
    return WithKey(endpoint, key, headers)


def get(tx: Session, *, workspace_id: str, endpoint_id: str, lock: bool = False) -> WebhookEndpoint:
    """The endpoint. Raises ``EndpointNotFound``."""
    endpoint = Endpoints(tx).get(workspace_id, endpoint_id, lock=lock)
    if endpoint is None:
        raise EndpointNotFound("There is no such webhook endpoint.")
    return endpoint


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
    keyring: Keyring,
    actor: str,
    at: datetime,
) -> WebhookEndpoint:
    """Change ``url``, ``events``, ``description``, ``metadata``, ``headers`` or ``enabled``.

    Disabling discards what waits for the endpoint; enabling, or another address, forgets how it failed before.
    Raises ``EndpointNotFound`` and ``InvalidInput``.
    """
    endpoint = get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id, lock=True)
    _write(endpoint, changes, rules, keyring)
    if changes.get("enabled", endpoint.enabled) != endpoint.enabled:
        endpoint.enabled = changes["enabled"]
        endpoint.disabled_reason = None if endpoint.enabled else BY_REQUEST
        if not endpoint.enabled:
            _stop_sending(tx, endpoint.id, at)
    if changes.keys() & {"url", "enabled"}:
        endpoint.healthy, endpoint.failing_since, endpoint.paused_until = False, None, None
    _revise(tx, endpoint, at)
    note(tx, endpoint, "changed", {"fields": sorted(changes)}, actor, at)
    return endpoint


def _write(endpoint: WebhookEndpoint, changes: Mapping[str, Any], rules: Rules, keyring: Keyring) -> None:
    if "url" in changes:
        endpoint.url = check_url(changes["url"], rules)
    if "events" in changes:
        endpoint.events = list(check_patterns(changes["events"]))
    if "description" in changes:
        endpoint.description = changes["description"]
    if "metadata" in changes:
        endpoint.metadata_ = dict(changes["metadata"])
    if "headers" in changes:
        headers = static_headers.check(changes["headers"])
        endpoint.sealed_headers, endpoint.header_names = static_headers.seal(headers, keyring), list(headers)


def disable(tx: Session, endpoint_id: str, *, reason: str, at: datetime) -> None:
    """Send nothing more to an endpoint that does not take it, and tell the workspace's other endpoints."""
    endpoint = Endpoints(tx).locked(endpoint_id)
    if endpoint is None or not endpoint.enabled:
        return
    endpoint.enabled, endpoint.disabled_reason = False, reason
    _stop_sending(tx, endpoint_id, at)
    _revise(tx, endpoint, at)
    data = {"id": endpoint_id, "reason": reason, "sequence": endpoint.revision}
    put_event(tx, workspace_id=endpoint.workspace_id, type="webhook_endpoint.disabled", data=data, at=at)
    note(tx, endpoint, "disabled", {"reason": reason}, "system", at)


def remove(tx: Session, *, workspace_id: str, endpoint_id: str, actor: str, at: datetime) -> None:
    """Delete the endpoint and forget its secrets. Raises ``EndpointNotFound``."""
    endpoint = get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id, lock=True)
    endpoint.deleted_at = at
    endpoint.enabled = False
    endpoint.sealed_secret = b""
    endpoint.sealed_headers = endpoint.sealed_previous_secret = endpoint.previous_secret_until = None
    Endpoints(tx).forget_old_keys(endpoint_id)
    _stop_sending(tx, endpoint_id, at)
    _revise(tx, endpoint, at)
    note(tx, endpoint, "deleted", {}, actor, at)


def rotate_secret(
    tx: Session,
    *,
    workspace_id: str,
    endpoint_id: str,
    grace_s: int,
    secret: str | None = None,
    algorithm: Algorithm | None = None,
    keyring: Keyring,
    actor: str,
    at: datetime,
) -> WithKey:
    """Another key, made or given; for ``grace_s`` seconds messages are signed with the old one too, new first.

    Up to ``MOST_OLD_KEYS`` old ones sign, each until its grace ends; without grace none does. The algorithm stays
    unless one is named. Raises ``EndpointNotFound`` and ``InvalidInput``.
    """
    endpoint = get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id, lock=True)
    key = _key(secret, algorithm or Algorithm(endpoint.algorithm))
    endpoints = Endpoints(tx)
    if grace_s:
        endpoints.retire_key(endpoint, until=at + timedelta(seconds=grace_s), most=MOST_OLD_KEYS)
    else:
        endpoints.forget_old_keys(endpoint_id)
    endpoint.algorithm = key.algorithm
    endpoint.sealed_secret = keyring.seal(PURPOSE, key.material)
    endpoint.sealed_previous_secret = endpoint.previous_secret_until = None
    _revise(tx, endpoint, at)
    note(tx, endpoint, "secret_rotated", {"grace_s": grace_s, "algorithm": key.algorithm}, actor, at)
    return WithKey(endpoint, key, static_headers.unseal(endpoint.sealed_headers, keyring))


def read_secret(
    tx: Session, *, workspace_id: str, endpoint_id: str, keyring: Keyring, actor: str, at: datetime
) -> WithKey:
    """The endpoint with its key and the values of its static headers; that it was read is in the audit log.

    Raises ``EndpointNotFound``.
    """
    endpoint = get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id)
    note(tx, endpoint, "secret_read", {}, actor, at)
    return WithKey(endpoint, key_of(endpoint, keyring), static_headers.unseal(endpoint.sealed_headers, keyring))


def key_of(endpoint: WebhookEndpoint, keyring: Keyring) -> Key:
    """The key that signs for the endpoint."""
    return Key(Algorithm(endpoint.algorithm), keyring.open(PURPOSE, endpoint.sealed_secret))


def send_test(
    tx: Session, *, workspace_id: str, endpoint_id: str, type_name: str, actor: str, at: datetime
) -> Delivery:
    """Put a sample message, flagged ``test``, on its way to this endpoint alone.

    Raises ``EndpointNotFound``, ``EndpointDisabled`` and, for an event that does not exist, ``InvalidInput``.
    """
    endpoint = enabled(get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id))
    kind = event_type(type_name)
    if kind is None:
        raise InvalidInput("There is no such event.", [Problem("/type", "unknown_event", "No event is of this type.")])
    message = messages.make(tx, workspace_id, type_name, kind.example, happened=rfc3339(at), test=True)
    Deliveries(tx).add(message, [endpoint.id], at)
    note(tx, endpoint, "tested", {"message_id": message.id}, actor, at)
    return delivery(tx, workspace_id=workspace_id, endpoint_id=endpoint_id, message_id=message.id)


def delivery(tx: Session, *, workspace_id: str, endpoint_id: str, message_id: str) -> Delivery:
    """One delivery with its attempts. Raises ``EndpointNotFound`` and ``DeliveryNotFound``."""
    get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id)
    whole = Deliveries(tx).whole(endpoint_id, message_id)
    if whole is None:
        raise DeliveryNotFound("This message was not addressed to this endpoint.")
    return whole


def list_deliveries(
    tx: Session, *, workspace_id: str, endpoint_id: str, status: str | None, wanted: MessageFilter, page: Page
) -> Slice[Delivery]:
    """The endpoint's deliveries with their attempts, newest first. Raises ``EndpointNotFound``."""
    get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id)
    return Deliveries(tx).page(endpoint_id, status, wanted, page)


def stats(tx: Session, *, workspace_id: str, endpoint_id: str, since: datetime) -> Stats:
    """How the endpoint has done since then. Raises ``EndpointNotFound``."""
    get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id)
    return Deliveries(tx).stats(endpoint_id, since)


def retry(tx: Session, *, workspace_id: str, endpoint_id: str, message_id: str, actor: str, at: datetime) -> Delivery:
    """Send the message once more, now; works for delivered ones too. Same id, new timestamp.

    Raises ``EndpointNotFound``, ``EndpointDisabled`` and ``DeliveryNotFound``.
    """
    endpoint = enabled(get(tx, workspace_id=workspace_id, endpoint_id=endpoint_id))
    row = Deliveries(tx).get(endpoint_id, message_id, lock=True)
    if row is None:
        raise DeliveryNotFound("This message was not addressed to this endpoint.")
    row.status, row.next_attempt_at = "pending", at
    tx.flush()
    note(tx, endpoint, "delivery_retried", {"message_id": message_id}, actor, at)
    return delivery(tx, workspace_id=workspace_id, endpoint_id=endpoint_id, message_id=message_id)


def enabled(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """The endpoint. Raises ``EndpointDisabled`` unless it is enabled."""
    if not endpoint.enabled:
        raise EndpointDisabled("The endpoint is disabled; enable it first.")
    return endpoint


def note(
    tx: Session, endpoint: WebhookEndpoint, happened: str, details: Mapping[str, Any], actor: str, at: datetime
) -> None:
    """What was done to the endpoint, in the audit log."""
    audit.note(
        tx,
        workspace_id=endpoint.workspace_id,
        actor=actor,
        action=f"webhook_endpoint.{happened}",
        object_id=endpoint.id,
        details=details,
        at=at,
    )


def _key(secret: str | None, algorithm: Algorithm) -> Key:
    return signing.new_key(algorithm) if secret is None else signing.read(secret, algorithm)


def _stop_sending(tx: Session, endpoint_id: str, at: datetime) -> None:
    Replays(tx).stop(endpoint_id, at)
    Deliveries(tx).discard_pending(endpoint_id)


def _revise(tx: Session, endpoint: WebhookEndpoint, at: datetime) -> None:
    endpoint.revision += 1
    endpoint.updated_at = at
    tx.flush()
