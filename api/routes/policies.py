"""Policies."""

from typing import Annotated

from fastapi import APIRouter

from api.deps import Now, PageIn, Tx, requires
from api.errors import problems
from api.schemas.common import Listing
from api.schemas.policies import PolicyIn, PolicyOut
from core.access.principal import Principal
from core.policies import service

router = APIRouter(prefix="/v1/policies", tags=["policies"])


@router.put("/{name}", summary="Set a policy", responses=problems(400, 401, 403, 413, 415, 422))
def put_policy(
    name: str, body: PolicyIn, caller: Annotated[Principal, requires("policies:write")], tx: Tx, now: Now
) -> PolicyOut:
    """Stores a new version under this name. Runs that are planned already keep the version they were planned with."""
    given = body.model_dump(exclude_unset=True)
    return PolicyOut.of(
        service.put(tx, workspace_id=caller.workspace_id, name=name, body=given, actor=caller.key_id, at=now)
    )


@router.get("/{name}", summary="Read a policy", responses=problems(401, 403, 404, 422))
def get_policy(name: str, caller: Annotated[Principal, requires("policies:read")], tx: Tx) -> PolicyOut:
    """The current version. `default` always exists."""
    return PolicyOut.of(service.get(tx, workspace_id=caller.workspace_id, name=name))


@router.get("", summary="List policies", responses=problems(400, 401, 403, 422))
def list_policies(caller: Annotated[Principal, requires("policies:read")], tx: Tx, page: PageIn) -> Listing[PolicyOut]:
    """The current version of every policy, latest change first; the built-in `default` comes last."""
    return page.answer(service.list_policies(tx, workspace_id=caller.workspace_id, page=page), PolicyOut.of)
