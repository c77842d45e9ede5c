"""Who am I, and API keys."""

from typing import Annotated

from fastapi import APIRouter, Response

from api.deps import Caller, Now, PageIn, Tx, requires
from api.errors import problems
from api.idempotency import Once
from api.schemas.access import ApiKeyIn, ApiKeyOut, NewApiKeyOut, WhoamiOut
from api.schemas.common import Listing
from core.access import service
from core.access.principal import Principal

router = APIRouter(prefix="/v1", tags=["access"])


@router.get("/whoami", summary="Who am I", responses=problems(401))
def whoami(caller: Caller) -> WhoamiOut:
    """The workspace and scopes of the credential. Needs no scope: good for testing a connection."""
    return WhoamiOut.of(caller)


@router.post(
    "/api-keys",
    status_code=201,
    summary="Create an API key",
    response_model=NewApiKeyOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422),
)
def create_api_key(
    body: ApiKeyIn, caller: Annotated[Principal, requires("keys:write")], tx: Tx, now: Now, once: Once
) -> Response:
    """A key for this workspace. The answer holds its secret, which cannot be had again.

    A key can hand on only scopes that it has itself. Two keys may be active at once, for rotation.
    """

    def make() -> NewApiKeyOut:
        new = service.create_key(
            tx,
            workspace_id=caller.workspace_id,
            name=body.name,
            scopes=service.grant(caller=caller, scopes=body.scopes),
            mode=body.mode,
            actor=caller.key_id,
            at=now,
            expires_at=body.expires_at,
        )
        return NewApiKeyOut.of_new(new)

    return once(201, make)


@router.get("/api-keys", summary="List API keys", responses=problems(400, 401, 403, 422))
def list_api_keys(caller: Annotated[Principal, requires("keys:write")], tx: Tx, page: PageIn) -> Listing[ApiKeyOut]:
    """All keys of the workspace, newest first, with the revoked ones; never their secrets."""
    return page.answer(service.list_keys(tx, workspace_id=caller.workspace_id, page=page), ApiKeyOut.of)


@router.delete("/api-keys/{key_id}", summary="Revoke an API key", responses=problems(401, 403, 404, 422))
def revoke_api_key(key_id: str, caller: Annotated[Principal, requires("keys:write")], tx: Tx, now: Now) -> ApiKeyOut:
    """Ends the key at once. It stays listed; revoking it again changes nothing."""
    return ApiKeyOut.of(
        service.revoke(tx, workspace_id=caller.workspace_id, key_id=key_id, actor=caller.key_id, at=now)
    )
