"""The credential that a request carries, in any of its spellings."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from fastapi.encoders import jsonable_encoder
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

from core.access.principal import SCOPES
from core.access.service import Credential, Unauthenticated
from core.access.tokens import AccessToken

Dependency = TypeVar("Dependency", bound=Callable[..., Any])


SCHEMES: Final[Mapping[str, SecurityBase]] = {
    "bearer": HTTPBearer(description="`Authorization: Bearer unl_live_…`"),
    "apiKey": APIKey.model_validate({"name": "X-API-Key", "in": APIKeyIn.header, "description": "`X-API-Key: unl_…`"}),
    "basic": HTTPBase(scheme="basic", description="user: key id (`key_…`); password: the key"),
    "oauth2": OAuth2(
        description="client id and secret: key id and key",
        flows=OAuthFlows(clientCredentials=OAuthFlowClientCredentials(tokenUrl="/oauth/token", scopes=dict(SCOPES))),
    ),
}
"""What the OpenAPI document says of credentials. They are all read in one place, by ``credential_of``."""
_MARK: Final = "__scopes__"


def asks_for(*scopes: str) -> Callable[[Dependency], Dependency]:
    """Mark a dependency that lets nobody in without a credential, nor without these scopes."""

    def mark(dependency: Dependency) -> Dependency:
        setattr(dependency, _MARK, scopes)
        return dependency

    return mark


def note_in(document: dict[str, Any], routes: Iterable[Any]) -> None:
    """Write the schemes into an OpenAPI document, and which of the routes ask for which scopes.

    Told to the framework as dependencies, the schemes would be gone through again with every request.
    """
    document["components"]["securitySchemes"] = jsonable_encoder(SCHEMES, exclude_none=True)
    for route in routes:
        scopes = _scopes_of(getattr(route, "dependant", None))
        if scopes is not None and route.include_in_schema:
            for method in route.methods:
                operation = document["paths"][route.path_format][method.lower()]
                operation["security"] = [{name: list(scopes)} for name in SCHEMES]


def _scopes_of(dependant: Any) -> Sequence[str] | None:
    """What a dependency of the route is marked with; None when none is."""
    for one in getattr(dependant, "dependencies", ()):
        found = getattr(one.call, _MARK, None)
        if found is not None:
            return found
    return None


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
