"""OpenDSR requests as operators see them: what was called back, and trying again what has failed."""

from typing import Annotated

from fastapi import APIRouter

from api.deps import Config, Keys, Now, Tx, requires
from api.errors import problems
from api.schemas.opendsr import CallbackEventOut, CallbackLogOut, SubjectRequestOut
from core.access.principal import Principal
from core.opendsr import service
from core.opendsr.profile import Profile

router = APIRouter(prefix="/v1/opendsr-requests", tags=["OpenDSR"])

Reader = Annotated[Principal, requires("deletions:read")]
Writer = Annotated[Principal, requires("deletions:write")]


@router.get(
    "/{subject_request_id}",
    response_model=SubjectRequestOut,
    summary="Read an OpenDSR request",
    responses=problems(401, 403, 404, 422),
)
def get_opendsr_request(subject_request_id: str, caller: Reader, tx: Tx) -> SubjectRequestOut:
    """Its state, its deletion requests, and the certificate that signed its receipt."""
    found = service.get(tx, workspace_id=caller.workspace_id, subject_request_id=subject_request_id)
    return SubjectRequestOut.of(found)


@router.get(
    "/{subject_request_id}/callbacks",
    response_model=CallbackLogOut,
    summary="Read the delivery log of a request's callbacks",
    responses=problems(401, 403, 404, 422),
)
def list_opendsr_callbacks(subject_request_id: str, caller: Reader, tx: Tx) -> CallbackLogOut:
    """Every event for every address, with each attempt and its outcome."""
    found = service.deliveries(tx, workspace_id=caller.workspace_id, subject_request_id=subject_request_id)
    return CallbackLogOut(data=[CallbackEventOut.of(one) for one in found])


@router.post(
    "/{subject_request_id}/retry",
    response_model=SubjectRequestOut,
    summary="Try again what has failed",
    responses=problems(401, 403, 404, 409, 413, 415, 422, 503),
)
def retry_opendsr_request(
    subject_request_id: str, caller: Writer, tx: Tx, keyring: Keys, settings: Config, now: Now
) -> SubjectRequestOut:
    """Makes new deletion requests in place of those that have failed or were cancelled, for the models still to do."""
    look = service.retry(
        tx,
        workspace_id=caller.workspace_id,
        subject_request_id=subject_request_id,
        actor=caller.key_id,
        profile=Profile.of(settings),
        keyring=keyring,
        at=now,
    )
    return SubjectRequestOut.of(look)
