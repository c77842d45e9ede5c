"""Health on the wire."""

from typing import Literal

from pydantic import ConfigDict

from api.schemas.common import WireOut


class HealthOut(WireOut):
    """The process is up."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]


class PartOut(WireOut):
    """One part that the service needs."""

    status: Literal["ok", "down"]
    detail: str | None = None


class ReadinessOut(WireOut):
    """Whether every part answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ready",
                    "parts": {
                        "database": {"status": "ok", "detail": None},
                        "broker": {"status": "ok", "detail": None},
                        "object_store": {"status": "ok", "detail": None},
                    },
                }
            ]
        }
    )

    status: Literal["ready", "not_ready"]
    parts: dict[str, PartOut]
