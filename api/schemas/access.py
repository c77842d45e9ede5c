"""Workspaces and API keys on the wire."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints

from api.schemas.common import Time, TimeIn, WireIn, WireOut
from core.access.principal import Principal
from core.access.service import NewKey
from core.access.tables import ApiKey

_KEY: dict[str, Any] = {
    "id": "key_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "name": "privacy platform",
    "mode": "live",
    "scopes": ["deletions:read", "deletions:write"],
    "created_at": "2031-03-01T11:12:40.120Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
}


class WhoamiOut(WireOut):
    """Who the credential belongs to."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "workspace": "acme",
                    "key_id": "key_01k9d3v6m2q8r4t6w8y0a2c4e6",
                    "scopes": ["deletions:read", "deletions:write"],
                    "mode": "live",
                }
            ]
        }
    )

    workspace: str
    key_id: str
    scopes: list[str]
    mode: Literal["live", "test"]

    @classmethod
    def of(cls, caller: Principal) -> Self:
        """From the authenticated caller."""
        return cls(workspace=caller.workspace, key_id=caller.key_id, scopes=sorted(caller.scopes), mode=caller.mode)


class ApiKeyIn(WireIn):
    """A key to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "privacy platform", "scopes": ["deletions:read", "deletions:write"]}]}
    )

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="for people; need not be unique"
    )
    scopes: list[Annotated[str, StringConstraints(max_length=40)]] = Field(
        min_length=1, max_length=50, description="`area:action`, `area:*` or `*`; none that the calling key lacks"
    )
    mode: Literal["live", "test"] = "live"
    expires_at: TimeIn | None = None


class ApiKeyOut(WireOut):
    """A key, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY]})

    id: str
    name: str
    mode: Literal["live", "test"]
    scopes: list[str]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="to the minute")

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """From a row."""
        return cls.model_validate(key)


class NewApiKeyOut(ApiKeyOut):
    """A key just made. This is the only answer that holds ``secret``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_KEY, "secret": "unl_live_01k9d3v6m2q8r4t6w8y0a2c4e6_Zk1mP0…"}]}
    )

    secret: str = Field(description="the whole key, to be sent as `Authorization: Bearer …`; shown once")

    @classmethod
    def of_new(cls, new: NewKey) -> Self:
        """From a key just made."""
        return cls(**ApiKeyOut.of(new.key).model_dump(), secret=new.secret)
