"""Test mode on the wire."""

from pydantic import ConfigDict, Field

from api.schemas.common import WireIn, WireOut


class ClockIn(WireIn):
    """How far the sandbox's clock is moved."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"seconds": 3600}]})

    seconds: int = Field(ge=1, le=400 * 24 * 3600)


class ClockOut(WireOut):
    """What has passed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"seconds": 3600, "deletion_requests": 3}]})

    seconds: int
    deletion_requests: int = Field(description="how many requests grew older")
