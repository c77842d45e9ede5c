"""Events to be fetched, their types, and what became of them: the pull twin of webhooks."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.deps import Config, PageIn, Tx, requires
from api.errors import problems
from api.schemas.common import Listing, TimeIn
from api.schemas.events import EventOut, EventTypeOut, EventTypesOut, WebhookSenderOut
from api.schemas.webhook_deliveries import DeliveryOut
from core.access.principal import Principal
from core.webhooks import messages
from core.webhooks.catalogue import CATALOGUE
from core.webhooks.repository import MessageFilter

router = APIRouter(prefix="/v1", tags=["webhooks"])

Reader = Annotated[Principal, requires("webhooks:read")]
TypeFilter = Annotated[str | None, Query(max_length=100, description="exact, or a prefix such as `run.*`")]


@router.get("/events", summary="List events", response_model=Listing[EventOut], responses=problems(400, 401, 403, 422))
def list_events(
    caller: Reader,
    tx: Tx,
    page: PageIn,
    type: TypeFilter = None,
    created_after: TimeIn | None = None,
    created_before: TimeIn | None = None,
    order: Annotated[Literal["newest_first", "oldest_first"], Query()] = "newest_first",
) -> Response:
    """Every event of the last 30 days, whether or not a webhook endpoint heard of it, with the very bytes that webhooks
    carry. With `order=oldest_first` a reader that comes back with the last cursor or time misses none.
    """
    found = messages.list_events(
        tx,
        workspace_id=caller.workspace_id,
        wanted=MessageFilter(type, created_after, created_before),
        page=page,
        newest_first=order == "newest_first",
    )
    return page.raw_answer(found, lambda message: message.body)


@router.get("/events/{message_id}", summary="Read an event", response_model=EventOut, responses=problems(401, 403, 404))
def get_event(message_id: str, caller: Reader, tx: Tx) -> Response:
    """One event by the id that `webhook-id` carries."""
    message = messages.get(tx, workspace_id=caller.workspace_id, message_id=message_id)
    return Response(message.body, media_type="application/json")


@router.get(
    "/events/{message_id}/deliveries",
    summary="List an event's deliveries",
    responses=problems(400, 401, 403, 404, 422),
)
def list_event_deliveries(message_id: str, caller: Reader, tx: Tx, page: PageIn) -> Listing[DeliveryOut]:
    """What became of the event at each endpoint that it was addressed to, with every attempt."""
    found = messages.deliveries_of(tx, workspace_id=caller.workspace_id, message_id=message_id, page=page)
    return page.answer(found, DeliveryOut.of)


@router.get("/event-types", summary="List event types", responses=problems(401, 403))
def list_event_types(caller: Reader) -> EventTypesOut:
    """The catalogue: every type of event with the JSON Schema of its message and an example."""
    del caller
    return EventTypesOut(data=[EventTypeOut.of(kind) for kind in CATALOGUE])


@router.get("/webhook-sender", summary="Read how webhooks are sent", responses=problems(401, 403))
def get_webhook_sender(caller: Reader, config: Config) -> WebhookSenderOut:
    """The addresses that messages come from, for firewalls, and the schedule of retries."""
    del caller
    return WebhookSenderOut.of(config.webhooks)
