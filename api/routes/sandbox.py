"""Test mode: what only test keys may do."""

from typing import Annotated

from fastapi import APIRouter

from api.deps import Now, Tx, requires
from api.errors import problems
from api.schemas.sandbox import ClockIn, ClockOut
from core.access.principal import Principal
from core.sandbox import service

router = APIRouter(prefix="/v1/test", tags=["test mode"])


@router.post(
    "/clock/advance",
    summary="Let time pass in the sandbox",
    responses=problems(400, 401, 403, 404, 413, 415, 422, 503),
)
def advance_clock(
    body: ClockIn, caller: Annotated[Principal, requires("deletions:write")], tx: Tx, now: Now
) -> ClockOut:
    """Puts everything that has happened so many seconds further into the past: holds end, deadlines come near or pass.

    Times that were read before change by as much. For test keys; to live keys there is nothing here (404).
    """
    aged = service.advance_clock(tx, caller=caller, seconds=body.seconds, at=now)
    return ClockOut(seconds=body.seconds, deletion_requests=aged)
