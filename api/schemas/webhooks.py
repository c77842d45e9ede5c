"""Webhook endpoints and deliveries on the wire."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints

from api.schemas.common import Time, WireIn, WireOut
from core.webhooks.repository import Delivery
from core.webhooks.service import WithSecret
from core.webhooks.tables import WebhookAttempt, WebhookEndpoint

_ENDPOINT: dict[str, Any] = {
    "id": "whe_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "url": "https://privacy.acme.example/hooks/unlearn",
    "events": ["deletion_request.*"],
    "description": "privacy platform",
    "enabled": True,
    "disabled_reason": None,
    "created_at": "2031-03-01T11:12:40.120Z",
    "updated_at": "2031-03-01T11:12:40.120Z",
}
_ATTEMPT: dict[str, Any] = {
    "at": "2031-03-01T11:12:41.020Z",
    "status_code": 204,
    "latency_ms": 84,
    "error": None,
    "response": None,
}
_DELIVERY: dict[str, Any] = {
    "message_id": "msg_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "endpoint_id": "whe_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "type": "deletion_request.completed",
    "test": False,
    "status": "delivered",
    "created_at": "2031-03-01T11:12:40.900Z",
    "next_attempt_at": None,
    "delivered_at": "2031-03-01T11:12:41.020Z",
    "attempts": [_ATTEMPT],
}

Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Events = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field(max_length=100)]
Description = Annotated[str, StringConstraints(max_length=500)]


class WebhookEndpointIn(WireIn):
    """An endpoint to be registered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://privacy.acme.example/hooks/unlearn", "events": ["deletion_request.*"]}]
        }
    )

    url: Url = Field(description="https, a public host, port 443 or from 1024")
    events: Events = Field(default=[], description="event types or prefixes such as `run.*`; empty: all")
    description: Description | None = None


class WebhookEndpointChange(WireIn):
    """What is to be different; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": ["run.*"], "enabled": True}]})

    url: Url = Field("", description="https, a public host, port 443 or from 1024")
    events: Events = Field(default=[], description="event types or prefixes; empty: all")
    description: Description | None = None
    enabled: bool = Field(default=True, description="false discards what waits for the endpoint")

    def changes(self) -> dict[str, Any]:
        """Only what was sent."""
        return self.model_dump(exclude_unset=True)


class WebhookEndpointOut(WireOut):
    """An endpoint, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ENDPOINT]})

    id: str
    url: str
    events: list[str]
    description: str | None
    enabled: bool
    disabled_reason: str | None = Field(description="`gone`: it answered 410; `by request`")
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> Self:
        """From a row."""
        return cls.model_validate(endpoint)


class WebhookEndpointWithSecret(WebhookEndpointOut):
    """An endpoint and its secret: the only kind of answer that holds it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_ENDPOINT, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="}]}
    )

    secret: str = Field(description="`whsec_` and base64 of the key that signs; shown once")

    @classmethod
    def of_new(cls, made: WithSecret) -> Self:
        """From the service's answer."""
        return cls(**WebhookEndpointOut.of(made.endpoint).model_dump(), secret=made.secret)


class RotateSecretIn(WireIn):
    """How to change over."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_seconds": 86400}]})

    grace_seconds: int = Field(86_400, ge=0, le=604_800, description="how long the old secret signs as well")


class SampleIn(WireIn):
    """Which sample to send."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "deletion_request.completed"}]})

    type: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "ping"


class AttemptOut(WireOut):
    """One try of a delivery."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ATTEMPT]})

    at: Time
    status_code: int | None = Field(description="null when no answer came")
    latency_ms: int
    error: str | None = Field(description="`timeout`, `tls`, `unreachable`, `protocol`; null when an answer came")
    response: str | None = Field(description="the beginning of the answer")

    @classmethod
    def of(cls, attempt: WebhookAttempt) -> Self:
        """From a row."""
        return cls.model_validate(attempt)


class DeliveryOut(WireOut):
    """One message to one endpoint."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DELIVERY]})

    message_id: str = Field(description="the `webhook-id` header")
    endpoint_id: str
    type: str
    test: bool
    status: Literal["pending", "delivered", "exhausted", "discarded"]
    created_at: Time
    next_attempt_at: Time | None
    delivered_at: Time | None
    attempts: list[AttemptOut]

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """From the service's answer."""
        row, message = delivery.row, delivery.message
        return cls.model_validate(
            {
                "message_id": message.id,
                "endpoint_id": row.endpoint_id,
                "type": message.type,
                "test": message.test,
                "status": row.status,
                "created_at": message.created_at,
                "next_attempt_at": row.next_attempt_at,
                "delivered_at": row.delivered_at,
                "attempts": [AttemptOut.of(attempt) for attempt in delivery.attempts],
            }
        )
