"""OAuth 2.0 on the wire: RFC 6749 and RFC 8414 name every field."""

from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field

from api.schemas.common import WireOut
from core.access.principal import GRANTABLE
from core.access.tokens import IssuedToken

TOKEN_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "const": "client_credentials"},
        "scope": {"type": "string", "description": "some of the key's scopes, with spaces between; unset: all of them"},
        "client_id": {"type": "string", "description": "the key's id, unless it comes by Basic"},
        "client_secret": {"type": "string", "description": "the key, unless it comes by Basic", "format": "password"},
    },
}
TOKEN_EXAMPLE: Final = {"grant_type": "client_credentials", "scope": "deletions:read deletions:write"}

TokenErrorCode = Literal["invalid_request", "invalid_client", "unsupported_grant_type", "invalid_scope"]


class TokenOut(WireOut):
    """An access token, to be sent as `Authorization: Bearer`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "access_token": "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJIUzI1NiJ9.eyJzdWI…",
                    "token_type": "Bearer",
                    "expires_in": 3600,
                    "scope": "deletions:read deletions:write",
                }
            ]
        }
    )

    access_token: str = Field(description="opaque to callers")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int = Field(description="seconds, at most 3600")
    scope: str

    @classmethod
    def of(cls, token: IssuedToken) -> Self:
        """From a token just made."""
        return cls(access_token=token.text, expires_in=token.expires_in_s, scope=" ".join(token.scopes))


class TokenErrorOut(WireOut):
    """Why there is no token (RFC 6749, 5.2)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"error": "invalid_client", "error_description": "The credential is not valid."}]
        }
    )

    error: TokenErrorCode
    error_description: str


class AuthorizationServerOut(WireOut):
    """What the token endpoint can do (RFC 8414)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "issuer": "https://unlearn.example",
                    "token_endpoint": "https://unlearn.example/oauth/token",
                    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                    "grant_types_supported": ["client_credentials"],
                    "response_types_supported": [],
                    "scopes_supported": ["deletions:read", "deletions:write"],
                    "service_documentation": "https://unlearn.example/docs",
                }
            ]
        }
    )

    issuer: str
    token_endpoint: str
    token_endpoint_auth_methods_supported: list[str]
    grant_types_supported: list[str]
    response_types_supported: list[str] = Field(description="none: there is no authorisation endpoint")
    scopes_supported: list[str]
    service_documentation: str

    @classmethod
    def at(cls, base_url: str) -> Self:
        """Of the service at this address."""
        return cls(
            issuer=base_url,
            token_endpoint=f"{base_url}/oauth/token",
            token_endpoint_auth_methods_supported=["client_secret_basic", "client_secret_post"],
            grant_types_supported=["client_credentials"],
            response_types_supported=[],
            scopes_supported=sorted(GRANTABLE),
            service_documentation=f"{base_url}/docs",
        )
