"""Legal holds on the wire."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from api.schemas.common import Time, WireIn, WireOut
from core.holds.service import PlaceHold
from core.holds.tables import LegalHold

_HOLD_IN: JsonDict = {"scope": "dataset", "name": "digits", "reason": "Case 2031-17: preserve the training data."}
_HOLD: JsonDict = {
    **_HOLD_IN,
    "id": "hold_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "created_by": "key_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "created_at": "2031-03-01T11:12:40.120Z",
    "released_at": None,
    "released_by": None,
    "release_reason": None,
}
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class HoldIn(WireIn):
    """What must not be erased, and why."""

    model_config = ConfigDict(json_schema_extra={"examples": [_HOLD_IN, {"scope": "workspace", "reason": "Audit."}]})

    scope: Literal["workspace", "dataset", "model"] = Field(description="a data set's hold covers its models too")
    name: str | None = Field(None, max_length=63, description="of the data set or model")
    reason: Reason = Field(description="kept in the audit log; no personal data")

    def to_command(self) -> PlaceHold:
        """What the service is told."""
        return PlaceHold(self.scope, self.name, self.reason)


class ReleaseIn(WireIn):
    """Why the hold is over."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Case 2031-17 is closed."}]})

    reason: Reason = Field(description="kept in the audit log; no personal data")


class HoldOut(WireOut):
    """A legal hold."""

    model_config = ConfigDict(json_schema_extra={"examples": [_HOLD]})

    id: str
    scope: str
    name: str | None
    reason: str
    created_by: str = Field(description="a key's id")
    created_at: Time
    released_at: Time | None = Field(description="null while it is in force")
    released_by: str | None
    release_reason: str | None

    @classmethod
    def of(cls, hold: LegalHold) -> Self:
        """From its row."""
        return cls.model_validate(hold)
