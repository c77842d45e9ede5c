"""Events, their types and how they are sent, on the wire."""

from typing import Any, Self

from pydantic import ConfigDict, Field

from api.schemas.common import Time, WireOut
from core.platform.settings import WebhookSettings
from core.webhooks.catalogue import CATALOGUE, EventType
from core.webhooks.delivering import USER_AGENT


class EventOut(WireOut):
    """An event, byte for byte as webhooks carry it."""

    model_config = ConfigDict(json_schema_extra={"examples": [CATALOGUE[0].message_example()]})

    id: str = Field(description="the `webhook-id` header")
    type: str
    timestamp: Time = Field(description="when it happened")
    api_version: str
    test: bool
    data: dict[str, Any]


class EventTypeOut(WireOut):
    """A type of event. ``schema`` is JSON Schema of the whole message."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": CATALOGUE[0].type,
                    "summary": CATALOGUE[0].summary,
                    "description": CATALOGUE[0].description,
                    "schema": CATALOGUE[0].message_schema(),
                    "example": CATALOGUE[0].message_example(),
                }
            ]
        }
    )

    type: str
    summary: str
    description: str
    json_schema: dict[str, Any] = Field(alias="schema")
    example: dict[str, Any]

    @classmethod
    def of(cls, kind: EventType) -> Self:
        """From the catalogue."""
        return cls.model_validate(
            {
                "type": kind.type,
                "summary": kind.summary,
                "description": kind.description,
                "schema": kind.message_schema(),
                "example": kind.message_example(),
            }
        )


class EventTypesOut(WireOut):
    """Every type of event there is."""

    data: list[EventTypeOut]


class WebhookSenderOut(WireOut):
    """Where messages come from, and when."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "addresses": ["192.0.2.10", "2001:db8::/64"],
                    "user_agent": USER_AGENT,
                    "schedule_s": [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400],
                    "timeout_s": 15,
                }
            ]
        }
    )

    addresses: list[str] = Field(description="addresses or networks that messages come from; empty: not published")
    user_agent: str
    schedule_s: list[float] = Field(description="pause before each attempt, counted from the failure before")
    timeout_s: float = Field(description="how long an answer may take in all")

    @classmethod
    def of(cls, settings: WebhookSettings) -> Self:
        """From the settings."""
        return cls(
            addresses=list(settings.egress_addresses),
            user_agent=USER_AGENT,
            schedule_s=list(settings.schedule_s),
            timeout_s=settings.timeout_s,
        )
