"""Access tokens for API keys: OAuth 2.0 client credentials."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from api.deps import AccessTokens, Config, Limits, Now, Tx
from api.errors import meaning, problems
from api.schemas.oauth import (
    TOKEN_EXAMPLE,
    TOKEN_SCHEMA,
    AuthorizationServerOut,
    TokenErrorCode,
    TokenErrorOut,
    TokenOut,
)
from api.security import basic_pair
from core.access.service import Credential, Unauthenticated
from core.access.tokens import IssuedToken, ScopeNotGranted

router = APIRouter(tags=["access"])

FORM: Final = "application/x-www-form-urlencoded"
_LARGEST_FORM: Final = 16 * 1024
_MOST_FIELDS: Final = 20
_UNSTORED: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class _Refused(Exception):
    """No token, and why, in the words of RFC 6749."""

    def __init__(self, error: TokenErrorCode, description: str) -> None:
        super().__init__(description)
        self.error: TokenErrorCode = error
        self.description = description


@router.post(
    "/oauth/token",
    summary="Get an access token",
    response_model=TokenOut,
    responses={
        400: {"model": TokenErrorOut, "description": "The request is not acceptable, in the form of RFC 6749"},
        401: {"model": TokenErrorOut, "description": meaning(401)},
        **problems(429, 503),
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {FORM: {"schema": TOKEN_SCHEMA, "example": TOKEN_EXAMPLE}}},
    },
)
async def issue_token(request: Request, tx: Tx, tokens: AccessTokens, limits: Limits, now: Now) -> Response:
    """A token for an hour, in place of the key: client credentials of OAuth 2.0 (RFC 6749, 4.4), form-encoded.

    Client id and secret are key id and key, by Basic or in the form. It ends at once when its key is revoked.
    """

    def make(credential: Credential, scopes: list[str]) -> IssuedToken:
        try:
            made = tokens.issue(tx, credential, scopes=scopes, at=now)
        except Unauthenticated as error:
            raise limits.refused(request.scope, error) from None
        limits.spend(request.scope, made.key_id)
        return made

    try:
        form = await _form(request)
        if form.get("grant_type") != "client_credentials":
            raise _Refused(*_wrong_grant(form))
        token = await run_in_threadpool(make, _client(request, form), form.get("scope", "").split())
    except Unauthenticated as error:
        return _refusal(_Refused("invalid_client", error.detail))
    except ScopeNotGranted as error:
        return _refusal(_Refused("invalid_scope", error.detail))
    except _Refused as error:
        return _refusal(error)
    return JSONResponse(TokenOut.of(token).model_dump(), headers=_UNSTORED)


@router.get("/.well-known/oauth-authorization-server", summary="Describe the token endpoint")
def authorization_server(settings: Config) -> AuthorizationServerOut:
    """Metadata of the authorisation server (RFC 8414)."""
    return AuthorizationServerOut.at(settings.public_url)


async def _form(request: Request) -> Mapping[str, str]:
    """The form's fields; those without a value count as not sent. Raises ``_Refused``."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise _Refused("invalid_request", f"The body must be {FORM}.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM:
            raise _Refused("invalid_request", f"The body may have at most {_LARGEST_FORM} bytes.")
    try:
        pairs = parse_qsl(body.decode("ascii"), max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise _Refused("invalid_request", "The form cannot be read.") from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise _Refused("invalid_request", "A field is there twice.")
    return dict(pairs)


def _wrong_grant(form: Mapping[str, str]) -> tuple[TokenErrorCode, str]:
    if "grant_type" in form:
        return "unsupported_grant_type", "The grant_type must be client_credentials."
    return "invalid_request", "The field grant_type is missing."


def _client(request: Request, form: Mapping[str, str]) -> Credential:
    """Raises ``_Refused`` when there are two credentials, ``Unauthenticated`` when there is none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme and "client_secret" in form:
        raise _Refused("invalid_request", "The client may authenticate in one way only.")
    if scheme.lower() == "basic":
        return Credential.of_pair(*(unquote_plus(part) for part in basic_pair(value.strip())))
    if scheme or "client_id" not in form or "client_secret" not in form:
        raise Unauthenticated("Send key id and key by Basic, or as client_id and client_secret.")
    return Credential.of_pair(form["client_id"], form["client_secret"])


def _refusal(refused: _Refused) -> Response:
    headers: dict[str, Any] = dict(_UNSTORED)
    if refused.error == "invalid_client":
        headers["WWW-Authenticate"] = 'Basic realm="unlearn"'
    out = TokenErrorOut(error=refused.error, error_description=refused.description)
    return JSONResponse(out.model_dump(), 401 if refused.error == "invalid_client" else 400, headers)
