"""Webhook endpoints and their delivery log."""

from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from api.deps import Config, Keys, Now, PageIn, Tx, requires
from api.errors import problems
from api.idempotency import Once
from api.schemas.common import Listing, TimeIn
from api.schemas.webhook_deliveries import DeliveryOut, DeliveryStatus, ReplayIn, ReplayOut, WebhookStatsOut
from api.schemas.webhooks import (
    RotateSecretIn,
    SampleIn,
    WebhookEndpointChange,
    WebhookEndpointIn,
    WebhookEndpointOut,
    WebhookEndpointWithSecret,
)
from api.waiting import Wait
from core.access.principal import Principal
from core.webhooks import replaying, service
from core.webhooks.addresses import Rules
from core.webhooks.repository import MessageFilter

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"])

Reader = Annotated[Principal, requires("webhooks:read")]
Writer = Annotated[Principal, requires("webhooks:write")]

_MARGIN_S: Final = 5
"""Beyond the time that an attempt may take: until a sender takes it up."""


@router.post(
    "",
    status_code=201,
    summary="Register a webhook endpoint",
    response_model=WebhookEndpointWithSecret,
    responses=problems(400, 401, 403, 409, 413, 415, 422),
)
def create_webhook_endpoint(
    body: WebhookEndpointIn, caller: Writer, tx: Tx, now: Now, config: Config, keyring: Keys, once: Once
) -> Response:
    """Events are POSTed there from now on, signed by Standard Webhooks. The secret is shown now and, from then on, only
    by `GET …/secret`.
    """

    def make() -> WebhookEndpointWithSecret:
        made = service.create(
            tx,
            workspace_id=caller.workspace_id,
            wanted=body.to_command(),
            rules=Rules.of(config.webhooks),
            keyring=keyring,
            actor=caller.key_id,
            at=now,
        )
        return WebhookEndpointWithSecret.of_key(made)

    return once(201, make, headers=lambda out: {"Location": f"/v1/webhook-endpoints/{out.id}"})


@router.get("", summary="List webhook endpoints", responses=problems(400, 401, 403, 422))
def list_webhook_endpoints(caller: Reader, tx: Tx, page: PageIn) -> Listing[WebhookEndpointOut]:
    """The workspace's endpoints, newest first; never their secrets."""
    return page.answer(service.list_endpoints(tx, workspace_id=caller.workspace_id, page=page), WebhookEndpointOut.of)


@router.get("/{endpoint_id}", summary="Read a webhook endpoint", responses=problems(401, 403, 404, 422))
def get_webhook_endpoint(endpoint_id: str, caller: Reader, tx: Tx) -> WebhookEndpointOut:
    """One endpoint, with the reason if it has been disabled."""
    return WebhookEndpointOut.of(service.get(tx, workspace_id=caller.workspace_id, endpoint_id=endpoint_id))


@router.patch(
    "/{endpoint_id}", summary="Change a webhook endpoint", responses=problems(400, 401, 403, 404, 413, 415, 422)
)
def change_webhook_endpoint(
    endpoint_id: str, body: WebhookEndpointChange, caller: Writer, tx: Tx, now: Now, config: Config, keyring: Keys
) -> WebhookEndpointOut:
    """Changes what is sent. Enabling does not send what was missed: start a replay for that."""
    changed = service.change(
        tx,
        workspace_id=caller.workspace_id,
        endpoint_id=endpoint_id,
        changes=body.changes(),
        rules=Rules.of(config.webhooks),
        keyring=keyring,
        actor=caller.key_id,
        at=now,
    )
    return WebhookEndpointOut.of(changed)


@router.delete(
    "/{endpoint_id}", status_code=204, summary="Delete a webhook endpoint", responses=problems(401, 403, 404, 422)
)
def delete_webhook_endpoint(endpoint_id: str, caller: Writer, tx: Tx, now: Now) -> None:
    """Sends nothing more there, and forgets its secrets."""
    service.remove(tx, workspace_id=caller.workspace_id, endpoint_id=endpoint_id, actor=caller.key_id, at=now)


@router.get("/{endpoint_id}/secret", summary="Read a webhook secret", responses=problems(401, 403, 404, 422))
def get_webhook_secret(endpoint_id: str, caller: Writer, tx: Tx, now: Now, keyring: Keys) -> WebhookEndpointWithSecret:
    """The endpoint with its secret or public key and its static headers. That it was read is in the audit log."""
    read = service.read_secret(
        tx,
        workspace_id=caller.workspace_id,
        endpoint_id=endpoint_id,
        keyring=keyring,
        actor=caller.key_id,
        at=now,
    )
    return WebhookEndpointWithSecret.of_key(read)


@router.post(
    "/{endpoint_id}/rotate-secret",
    summary="Rotate a webhook secret",
    response_model=WebhookEndpointWithSecret,
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def rotate_webhook_secret(
    endpoint_id: str, caller: Writer, tx: Tx, now: Now, keyring: Keys, once: Once, body: RotateSecretIn | None = None
) -> Response:
    """Another key, yours or a fresh one. Until the grace ends, messages carry the signatures of the old ones (at most
    ten) behind the new one's.
    """
    wanted = body or RotateSecretIn.model_validate({})

    def make() -> WebhookEndpointWithSecret:
        made = service.rotate_secret(
            tx,
            workspace_id=caller.workspace_id,
            endpoint_id=endpoint_id,
            grace_s=wanted.grace_seconds,
            secret=wanted.secret,
            algorithm=wanted.algorithm,
            keyring=keyring,
            actor=caller.key_id,
            at=now,
        )
        return WebhookEndpointWithSecret.of_key(made)

    return once(200, make)


@router.post(
    "/{endpoint_id}/test",
    summary="Send a test event",
    responses={
        202: {"description": "It has not been sent yet", "model": DeliveryOut},
        **problems(400, 401, 403, 404, 409, 413, 415, 422),
    },
)
async def send_test_event(
    endpoint_id: str,
    caller: Writer,
    tx: Tx,
    now: Now,
    config: Config,
    waiting: Wait,
    reply: Response,
    body: SampleIn | None = None,
) -> DeliveryOut:
    """Sends a sample, flagged `"test": true`, to this endpoint alone, before whatever else waits for it.

    Answers with the outcome of the first attempt, or 202 when there is none in time; `Prefer: wait=N` changes how long
    that is, and `Prefer: respond-async` answers at once.
    """
    sent = await run_in_threadpool(
        service.send_test,
        tx,
        workspace_id=caller.workspace_id,
        endpoint_id=endpoint_id,
        type_name=(body or SampleIn()).type,
        actor=caller.key_id,
        at=now,
    )
    waiting = waiting.otherwise(config.webhooks.timeout_s + _MARGIN_S)
    waiting.applied(reply.headers)
    if waiting.seconds:
        sent = await waiting.until(
            tx,
            lambda again: service.delivery(
                again, workspace_id=caller.workspace_id, endpoint_id=endpoint_id, message_id=sent.message.id
            ),
            done=lambda delivery: bool(delivery.attempts) or delivery.row.status != "pending",
        )
    if not sent.attempts:
        reply.status_code = 202
        reply.headers["Location"] = f"/v1/webhook-endpoints/{endpoint_id}/deliveries/{sent.message.id}"
    return DeliveryOut.of(sent)


@router.get("/{endpoint_id}/stats", summary="Read how an endpoint does", responses=problems(401, 403, 404, 422))
def get_webhook_stats(
    endpoint_id: str,
    caller: Reader,
    tx: Tx,
    now: Now,
    hours: Annotated[int, Query(ge=1, le=720, description="how far to look back")] = 24,
) -> WebhookStatsOut:
    """Success rate and latency of its attempts, and what waits for it now."""
    since = now - timedelta(hours=hours)
    found = service.stats(tx, workspace_id=caller.workspace_id, endpoint_id=endpoint_id, since=since)
    return WebhookStatsOut.of(found, since)


@router.get("/{endpoint_id}/deliveries", summary="List deliveries", responses=problems(400, 401, 403, 404, 422))
def list_deliveries(
    endpoint_id: str,
    caller: Reader,
    tx: Tx,
    page: PageIn,
    status: Annotated[DeliveryStatus | None, Query()] = None,
    type: Annotated[str | None, Query(max_length=100, description="exact, or a prefix such as `run.*`")] = None,
    created_after: TimeIn | None = None,
    created_before: TimeIn | None = None,
) -> Listing[DeliveryOut]:
    """What was sent to this endpoint, newest first, with each attempt. Kept for 30 days."""
    found = service.list_deliveries(
        tx,
        workspace_id=caller.workspace_id,
        endpoint_id=endpoint_id,
        status=status,
        wanted=MessageFilter(type, created_after, created_before),
        page=page,
    )
    return page.answer(found, DeliveryOut.of)


@router.get("/{endpoint_id}/deliveries/{message_id}", summary="Read a delivery", responses=problems(401, 403, 404, 422))
def get_delivery(endpoint_id: str, message_id: str, caller: Reader, tx: Tx) -> DeliveryOut:
    """One message to this endpoint, with each attempt."""
    return DeliveryOut.of(
        service.delivery(tx, workspace_id=caller.workspace_id, endpoint_id=endpoint_id, message_id=message_id)
    )


@router.post(
    "/{endpoint_id}/deliveries/{message_id}/retry",
    status_code=202,
    summary="Send a message again",
    responses=problems(401, 403, 404, 409, 422),
)
def retry_delivery(endpoint_id: str, message_id: str, caller: Writer, tx: Tx, now: Now) -> DeliveryOut:
    """Sends the message once more, now, with the same id and body; works for delivered ones too."""
    again = service.retry(
        tx,
        workspace_id=caller.workspace_id,
        endpoint_id=endpoint_id,
        message_id=message_id,
        actor=caller.key_id,
        at=now,
    )
    return DeliveryOut.of(again)


@router.post(
    "/{endpoint_id}/replay",
    status_code=202,
    summary="Replay events",
    response_model=ReplayOut,
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def replay_events(endpoint_id: str, body: ReplayIn, caller: Writer, tx: Tx, now: Now, once: Once) -> Response:
    """Sends the endpoint the events of a span of time that it wants by its patterns, also those from while it was
    disabled or did not exist, with their ids and bytes. A job, one at a time for each endpoint.
    """

    def make() -> ReplayOut:
        started = replaying.start(
            tx,
            workspace_id=caller.workspace_id,
            endpoint_id=endpoint_id,
            since=body.since,
            until=body.until,
            only_failed=body.only_failed,
            actor=caller.key_id,
            at=now,
        )
        return ReplayOut.of(started)

    place = f"/v1/webhook-endpoints/{endpoint_id}/replays"
    return once(202, make, headers=lambda out: {"Location": f"{place}/{out.id}", "Retry-After": "1"})


@router.get("/{endpoint_id}/replays", summary="List replays", responses=problems(400, 401, 403, 404, 422))
def list_replays(endpoint_id: str, caller: Reader, tx: Tx, page: PageIn) -> Listing[ReplayOut]:
    """The endpoint's replays, newest first. Kept for 30 days."""
    found = replaying.list_replays(tx, workspace_id=caller.workspace_id, endpoint_id=endpoint_id, page=page)
    return page.answer(found, ReplayOut.of)


@router.get("/{endpoint_id}/replays/{replay_id}", summary="Read a replay", responses=problems(401, 403, 404, 422))
def get_replay(endpoint_id: str, replay_id: str, caller: Reader, tx: Tx) -> ReplayOut:
    """How far a replay has got."""
    return ReplayOut.of(
        replaying.get(tx, workspace_id=caller.workspace_id, endpoint_id=endpoint_id, replay_id=replay_id)
    )
