"""Webhook endpoints and their delivery log."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from api.deps import Config, Keys, Now, PageIn, Tx, requires
from api.errors import problems
from api.idempotency import Once
from api.schemas.common import Listing
from api.schemas.webhooks import (
    DeliveryOut,
    RotateSecretIn,
    SampleIn,
    WebhookEndpointChange,
    WebhookEndpointIn,
    WebhookEndpointOut,
    WebhookEndpointWithSecret,
)
from api.waiting import Wait
from core.access.principal import Principal
from core.webhooks import service
from core.webhooks.addresses import Rules

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"])

Reader = Annotated[Principal, requires("webhooks:read")]
Writer = Annotated[Principal, requires("webhooks:write")]


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
    """Events are POSTed there from now on, signed by Standard Webhooks (`v1`). The secret is shown once."""

    def make() -> WebhookEndpointWithSecret:
        made = service.create(
            tx,
            workspace_id=caller.workspace_id,
            url=body.url,
            events=body.events,
            description=body.description,
            rules=Rules.of(config.webhooks),
            keyring=keyring,
            actor=caller.key_id,
            at=now,
        )
        return WebhookEndpointWithSecret.of_new(made)

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
    endpoint_id: str, body: WebhookEndpointChange, caller: Writer, tx: Tx, now: Now, config: Config
) -> WebhookEndpointOut:
    """Changes what is sent. Enabling does not send what was missed: retry those deliveries."""
    changed = service.change(
        tx,
        workspace_id=caller.workspace_id,
        endpoint_id=endpoint_id,
        changes=body.changes(),
        rules=Rules.of(config.webhooks),
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


@router.post(
    "/{endpoint_id}/rotate-secret",
    summary="Rotate a webhook secret",
    response_model=WebhookEndpointWithSecret,
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def rotate_webhook_secret(
    endpoint_id: str, caller: Writer, tx: Tx, now: Now, keyring: Keys, once: Once, body: RotateSecretIn | None = None
) -> Response:
    """A new secret, shown once. Until the grace ends, messages carry two signatures: the new one and the old."""
    grace_s = (body or RotateSecretIn.model_validate({})).grace_seconds

    def make() -> WebhookEndpointWithSecret:
        made = service.rotate_secret(
            tx,
            workspace_id=caller.workspace_id,
            endpoint_id=endpoint_id,
            grace_s=grace_s,
            keyring=keyring,
            actor=caller.key_id,
            at=now,
        )
        return WebhookEndpointWithSecret.of_new(made)

    return once(200, make)


@router.post(
    "/{endpoint_id}/test",
    status_code=202,
    summary="Send a test event",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
async def send_test_event(
    endpoint_id: str, caller: Writer, tx: Tx, now: Now, waiting: Wait, reply: Response, body: SampleIn | None = None
) -> DeliveryOut:
    """Sends a sample, flagged `"test": true`, to this endpoint alone.

    Answers at once with the delivery, or with `Prefer: wait=N` once its first attempt has been made.
    """
    type_name = (body or SampleIn()).type
    sent = await run_in_threadpool(
        service.send_test,
        tx,
        workspace_id=caller.workspace_id,
        endpoint_id=endpoint_id,
        type_name=type_name,
        actor=caller.key_id,
        at=now,
    )
    reply.headers["Location"] = f"/v1/webhook-endpoints/{endpoint_id}/deliveries"
    waiting.applied(reply.headers)
    if waiting.seconds:
        sent = await waiting.until(
            tx,
            lambda again: service.delivery(
                again, workspace_id=caller.workspace_id, endpoint_id=endpoint_id, message_id=sent.message.id
            ),
            done=lambda delivery: bool(delivery.attempts),
        )
    return DeliveryOut.of(sent)


@router.get("/{endpoint_id}/deliveries", summary="List deliveries", responses=problems(400, 401, 403, 404, 422))
def list_deliveries(
    endpoint_id: str,
    caller: Reader,
    tx: Tx,
    page: PageIn,
    status: Annotated[Literal["pending", "delivered", "exhausted", "discarded"] | None, Query()] = None,
) -> Listing[DeliveryOut]:
    """What was sent to this endpoint, newest first, with each attempt. Kept for 30 days."""
    found = service.list_deliveries(
        tx, workspace_id=caller.workspace_id, endpoint_id=endpoint_id, status=status, page=page
    )
    return page.answer(found, DeliveryOut.of)


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
