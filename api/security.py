"""The credential that a request carries, in any of its spellings."""

import base64
import binascii
from collections.abc import Mapping
from typing import Literal

from fastapi.openapi.models import (
    APIKey,
    APIKeyIn,
    HTTPBase,
    HTTPBearer,
    OAuth2,
    OAuthFlowClientCredentials,
    OAuthFlows,
    SecurityBase,
)
from fastapi.security.base import SecurityBase as Scheme

from core.access.principal import SCOPES
from core.access.service import Credential, Unauthenticated
from core.access.tokens import AccessToken


class _Documented(Scheme):
    """A scheme in the OpenAPI document. It checks nothing: ``credential_of`` reads them all in one place."""

    def __init__(self, name: Literal["bearer", "apiKey", "basic", "oauth2"], model: SecurityBase) -> None:
        self.scheme_name = name
        self.model = model

    async def __call__(self) -> None:
        """Nothing to do."""


BEARER = _Documented("bearer", HTTPBearer(description="`Authorization: Bearer unl_live_…`"))
HEADER = _Documented(
    "apiKey", APIKey.model_validate({"name": "X-API-Key", "in": APIKeyIn.header, "description": "`X-API-Key: unl_…`"})
)
BASIC = _Documented("basic", HTTPBase(scheme="basic", description="user: key id (`key_…`); password: the key"))
OAUTH2 = _Documented(
    "oauth2",
    OAuth2(
        description="client id and secret: key id and key",
        flows=OAuthFlows(clientCredentials=OAuthFlowClientCredentials(tokenUrl="/oauth/token", scopes=dict(SCOPES))),
    ),
)


def credential_of(headers: Mapping[str, str]) -> Credential | AccessToken:
    """The credential in the headers. Raises ``Unauthenticated`` when there is none or it cannot be read."""
    authorization = headers.get("authorization")
    if authorization is None:
        given = headers.get("x-api-key")
        if given is None:
            raise Unauthenticated("Send an API key: Authorization: Bearer, X-API-Key, or Basic with the key id.")
        return Credential.of_text(given.strip())
    scheme, _, value = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return _of_bearer(value.strip())
        case "basic":
            return Credential.of_pair(*basic_pair(value.strip()))
        case _:
            raise Unauthenticated("The scheme of Authorization must be Bearer or Basic.")


def basic_pair(value: str) -> tuple[str, str]:
    """User and password of a Basic credential. Raises ``Unauthenticated``."""
    try:
        pair = base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Unauthenticated("The Basic credential cannot be read.") from None
    user, _, password = pair.partition(":")
    if not pair.isprintable():
        raise Unauthenticated("The Basic credential cannot be read.")
    return user, password


def _of_bearer(text: str) -> Credential | AccessToken:
    return AccessToken(text) if text.count(".") == 2 else Credential.of_text(text)
