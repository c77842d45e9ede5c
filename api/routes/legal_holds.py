"""Legal holds."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.deps import Now, PageIn, Tx, requires
from api.errors import problems
from api.idempotency import Once
from api.schemas.common import Listing
from api.schemas.legal_holds import HoldIn, HoldOut, ReleaseIn
from core.access.principal import Principal
from core.holds import service
from core.holds.repository import Holds

router = APIRouter(prefix="/v1/legal-holds", tags=["legal holds"])


@router.post(
    "",
    status_code=201,
    response_model=HoldOut,
    summary="Place a legal hold",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def place_hold(
    body: HoldIn, caller: Annotated[Principal, requires("holds:write")], tx: Tx, now: Now, once: Once
) -> Response:
    """From the answer on nothing that it covers is planned, rewritten or purged.

    Deletion requests are accepted, wait (`status_detail` `legal_hold`), and keep their deadlines. A run that is planned
    already goes on: what it supersedes is kept.
    """

    def make() -> HoldOut:
        return HoldOut.of(service.place(tx, caller=caller, command=body.to_command(), at=now))

    return once(201, make, headers=lambda out: {"Location": f"/v1/legal-holds/{out.id}"})


@router.get("/{hold_id}", response_model=HoldOut, summary="Read a legal hold", responses=problems(401, 403, 404))
def get_hold(hold_id: str, caller: Annotated[Principal, requires("holds:read")], tx: Tx) -> HoldOut:
    """In force or released."""
    return HoldOut.of(Holds(tx).get_for(caller.workspace_id, hold_id))


@router.get("", response_model=Listing[HoldOut], summary="List legal holds", responses=problems(400, 401, 403, 422))
def list_holds(
    caller: Annotated[Principal, requires("holds:read")],
    tx: Tx,
    page: PageIn,
    in_force: Annotated[bool | None, Query(description="unset: all")] = None,
) -> Listing[HoldOut]:
    """Newest first."""
    return page.answer(Holds(tx).page(caller.workspace_id, page, in_force=in_force), HoldOut.of)


@router.post(
    "/{hold_id}/release",
    response_model=HoldOut,
    summary="Release a legal hold",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def release_hold(
    hold_id: str, body: ReleaseIn, caller: Annotated[Principal, requires("holds:write")], tx: Tx, now: Now
) -> HoldOut:
    """What waited for this hold alone goes on by itself."""
    return HoldOut.of(service.release(tx, caller=caller, hold_id=hold_id, reason=body.reason, at=now))
