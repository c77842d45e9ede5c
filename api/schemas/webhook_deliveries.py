"""Deliveries, replays and figures of webhook endpoints on the wire."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from api.schemas.common import Time, TimeIn, WireIn, WireOut
from core.webhooks.deliveries import Delivery, Stats
from core.webhooks.tables import WebhookAttempt, WebhookReplay

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
_REPLAY: dict[str, Any] = {
    "id": "rpl_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "endpoint_id": "whe_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "status": "running",
    "since": "2031-03-01T00:00:00.000Z",
    "until": "2031-03-02T00:00:00.000Z",
    "only_failed": True,
    "total": 1200,
    "examined": 400,
    "queued": 37,
    "created_at": "2031-03-02T08:00:00.000Z",
    "finished_at": None,
}

DeliveryStatus = Literal["pending", "delivered", "exhausted", "discarded"]


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
    status: DeliveryStatus
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
                "next_attempt_at": delivery.next_attempt_at,
                "delivered_at": row.delivered_at,
                "attempts": [AttemptOut.of(attempt) for attempt in delivery.attempts],
            }
        )


class ReplayIn(WireIn):
    """Which events to send again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"since": "2031-03-01T00:00:00Z", "until": "2031-03-02T00:00:00Z"},
                {"since": "2031-03-01T00:00:00Z", "only_failed": False},
            ]
        }
    )

    since: TimeIn = Field(description="from this moment on; at most 30 days ago")
    until: TimeIn | None = Field(None, description="before this moment; left out, or in the future: now")
    only_failed: bool = Field(
        default=True, description="none that was delivered to this endpoint; false sends those again as well"
    )


class ReplayOut(WireOut):
    """A job that sends events again."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REPLAY]})

    id: str
    endpoint_id: str
    status: Literal["running", "completed", "stopped"] = Field(
        description="`completed`: everything is on its way; `stopped`: the endpoint was disabled or deleted"
    )
    since: Time
    until: Time
    only_failed: bool
    total: int = Field(description="events of that time")
    examined: int = Field(description="how many of them have been looked at")
    queued: int = Field(description="how many of those have been put on their way")
    created_at: Time
    finished_at: Time | None

    @classmethod
    def of(cls, replay: WebhookReplay) -> Self:
        """From a row."""
        return cls.model_validate(replay)


class WebhookStatsOut(WireOut):
    """How an endpoint does."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "since": "2031-03-01T11:12:40.120Z",
                    "attempts": 1840,
                    "successes": 1835,
                    "success_rate": 0.9973,
                    "latency_ms_median": 61,
                    "latency_ms_p95": 240,
                    "backlog": 2,
                    "oldest_pending_at": "2031-03-02T11:11:02.400Z",
                }
            ]
        }
    )

    since: Time
    attempts: int
    successes: int
    success_rate: float | None = Field(description="of the attempts; null when there were none")
    latency_ms_median: float | None
    latency_ms_p95: float | None
    backlog: int = Field(description="messages that wait now, whether for their first attempt or another")
    oldest_pending_at: Time | None = Field(description="when the oldest of them was made")

    @classmethod
    def of(cls, stats: Stats, since: Any) -> Self:
        """From the service's answer."""
        rate = round(stats.successes / stats.attempts, 4) if stats.attempts else None
        return cls(
            since=since,
            attempts=stats.attempts,
            successes=stats.successes,
            success_rate=rate,
            latency_ms_median=stats.latency_ms_median,
            latency_ms_p95=stats.latency_ms_p95,
            backlog=stats.backlog,
            oldest_pending_at=stats.oldest_pending_at,
        )
