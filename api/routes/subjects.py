"""Whether anything is known about a person."""

from typing import Annotated

from fastapi import APIRouter

from api.deps import Config, Keys, Now, Tx, requires
from api.errors import problems
from api.schemas.subjects import LookupIn, LookupOut
from core.access.principal import Principal
from core.deletions import service

router = APIRouter(prefix="/v1/subjects", tags=["subjects"])


@router.post(
    "/lookup",
    summary="Look people up",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
def look_up_subjects(
    body: LookupIn,
    caller: Annotated[Principal, requires("subjects:lookup")],
    tx: Tx,
    keyring: Keys,
    settings: Config,
    now: Now,
) -> LookupOut:
    """How many records there are about people, for platforms that skip a request when there are none.

    Counts only, for all people asked about together. Every call is written into the audit log, without whom it was
    about. A deletion request about nobody known is completed at once, so there is no need to ask first.
    """
    found = service.look_up(
        tx,
        workspace_id=caller.workspace_id,
        actor=caller.key_id,
        wanted=body.to_command(),
        keyring=keyring,
        max_ids=settings.api.max_ids_per_request,
        at=now,
    )
    return LookupOut.of(found)
