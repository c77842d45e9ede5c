"""Webhook endpoints on the wire."""

import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from api.schemas.common import Time, WireIn, WireOut
from core.webhooks.service import NewEndpoint, WithKey
from core.webhooks.signing import Algorithm
from core.webhooks.tables import WebhookEndpoint

_METADATA_BYTES = 4096
_ENDPOINT: dict[str, Any] = {
    "id": "whe_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "url": "https://privacy.acme.example/hooks/unlearn",
    "events": ["deletion_request.*"],
    "description": "privacy platform",
    "metadata": {"team": "privacy"},
    "algorithm": "hmac-sha256",
    "header_names": [],
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "paused_until": None,
    "created_at": "2031-03-01T11:12:40.120Z",
    "updated_at": "2031-03-01T11:12:40.120Z",
}
_KEY: dict[str, Any] = {
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
    "public_key": None,
    "headers": {},
}


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata).encode()) > _METADATA_BYTES:
        raise ValueError(f"metadata may have at most {_METADATA_BYTES} bytes as JSON")
    return metadata


Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Events = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field(max_length=100)]
Description = Annotated[str, StringConstraints(max_length=500)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Headers = dict[str, str]

_HEADERS = "sent with every message, for example the receiver's own credential; kept sealed and not shown in lists"
_KEY_FORMS = "your own key: `whsec_` and base64 of 24 to 64 bytes, or for ed25519 `whsk_` and base64 of a private key"
_ALGORITHM = "`hmac-sha256` signs with a shared secret (`v1`); `ed25519` with a key whose public half you get (`v1a`)"


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
    metadata: Metadata = Field(default={}, description="kept with the endpoint, at most 4 kB; no personal data")
    headers: Headers = Field(default={}, description=_HEADERS)
    enabled: bool = True
    algorithm: Algorithm = Field(Algorithm.HMAC, strict=False, description=_ALGORITHM)
    secret: Secret | None = Field(None, description=f"{_KEY_FORMS}; left out, one is made")

    def to_command(self) -> NewEndpoint:
        """What the service is asked for."""
        return NewEndpoint(**self.model_dump())


class WebhookEndpointChange(WireIn):
    """What is to be different; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": ["run.*"], "enabled": True}]})

    url: Url = Field("", description="https, a public host, port 443 or from 1024")
    events: Events = Field(default=[], description="event types or prefixes; empty: all")
    description: Description | None = None
    metadata: Metadata = Field(default={}, description="replaces the whole of it")
    headers: Headers = Field(default={}, description="replaces all of them")
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
    metadata: dict[str, Any]
    algorithm: Algorithm
    header_names: list[str] = Field(description="names of its static headers; the values are shown with the secret")
    enabled: bool
    disabled_reason: str | None = Field(
        description="`gone`: it answered 410; `failing`: nothing but failures for five days; `by request`"
    )
    failing_since: Time | None = Field(description="first failure since the last success")
    paused_until: Time | None = Field(description="it asked for a pause: nothing is sent before")
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> Self:
        """From a row."""
        return cls.model_validate(_fields(endpoint))


class WebhookEndpointWithSecret(WebhookEndpointOut):
    """An endpoint and what it is signed with: the only kind of answer that holds it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_ENDPOINT, **_KEY}]})

    secret: str | None = Field(
        description="`whsec_` and base64 of the key that signs; null for ed25519, whose private key never leaves us"
    )
    public_key: str | None = Field(description="`whpk_` and base64 of the ed25519 key that verifies; else null")
    headers: Headers = Field(description="its static headers")

    @classmethod
    def of_key(cls, made: WithKey) -> Self:
        """From the service's answer."""
        return cls.model_validate(
            {
                **_fields(made.endpoint),
                "secret": made.key.secret,
                "public_key": made.key.public,
                "headers": dict(made.headers),
            }
        )


def _fields(endpoint: WebhookEndpoint) -> dict[str, Any]:
    names = WebhookEndpointOut.model_fields.keys() - {"metadata"}
    return {"metadata": endpoint.metadata_, **{name: getattr(endpoint, name) for name in names}}


class RotateSecretIn(WireIn):
    """How to change over."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_seconds": 86400}]})

    grace_seconds: int = Field(
        86_400, ge=0, le=604_800, description="how long the old key signs as well; 0 ends every old key at once"
    )
    secret: Secret | None = Field(None, description=f"{_KEY_FORMS}; left out, one is made")
    algorithm: Algorithm | None = Field(None, strict=False, description="another algorithm; left out, it stays")


class SampleIn(WireIn):
    """Which sample to send."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "deletion_request.completed"}]})

    type: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "ping"
