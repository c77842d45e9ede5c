"""Hardness assessments."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from api.deps import Config, Keys, Now, PageIn, Tx, requires
from api.errors import problems
from api.idempotency import Once, replay_of
from api.schemas.common import Listing, TimeIn
from api.schemas.hardness_assessments import HardnessAssessmentIn, HardnessAssessmentOut, Status
from api.waiting import IfNoneMatch, Wait, not_modified, unchanged
from core.access.principal import Principal
from core.assessments import service
from core.assessments.commands import AssessmentView
from core.runs.lifecycle import FINAL
from core.runs.repository import RunFilter

router = APIRouter(prefix="/v1/hardness-assessments", tags=["hardness assessments"])

Reader = Annotated[Principal, requires("deletions:read")]
Writer = Annotated[Principal, requires("deletions:write")]

_POLL_S = "2"


@router.post(
    "",
    status_code=202,
    response_model=HardnessAssessmentOut,
    summary="Ask how hard unlearning would be",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def submit_hardness_assessment(
    body: HardnessAssessmentIn,
    caller: Writer,
    tx: Tx,
    keyring: Keys,
    settings: Config,
    now: Now,
    once: Once,
    wait: Wait,
) -> Response:
    """A quote for a deletion request on one model: nothing is erased, and no record changes its state.

    A worker measures both gradients and predicts steps, seconds and retain cost for the policy's target. Poll
    `status_url`, or send `Prefer: wait=N`. It may be asked for while the model is being unlearned.
    """

    def make() -> HardnessAssessmentOut:
        made = service.submit(
            tx,
            workspace_id=caller.workspace_id,
            actor=caller.key_id,
            command=body.to_command(),
            keyring=keyring,
            max_ids=settings.api.max_ids_per_request,
            at=now,
        )
        return HardnessAssessmentOut.of(made, base_url=settings.public_url)

    reply = await run_in_threadpool(once, 202, make, _told)
    if not wait.seconds or reply.status_code != 202:
        return reply
    assessment_id = json.loads(bytes(reply.body))["id"]
    seen = await wait.until(
        tx, lambda other: service.get(other, workspace_id=caller.workspace_id, assessment_id=assessment_id), _ended
    )
    out = HardnessAssessmentOut.of(seen, base_url=settings.public_url)
    headers = {**_told(out), **replay_of(reply)}
    answer = JSONResponse(out.model_dump(mode="json"), 200 if _ended(seen) else 202, headers)
    wait.applied(answer.headers)
    return answer


@router.get(
    "",
    response_model=Listing[HardnessAssessmentOut],
    summary="List hardness assessments",
    responses=problems(400, 401, 403, 422),
)
def list_hardness_assessments(
    caller: Reader,
    tx: Tx,
    page: PageIn,
    settings: Config,
    status: Status | None = None,
    model: Annotated[str | None, Query(description="name or id")] = None,
    created_after: TimeIn | None = None,
    created_before: TimeIn | None = None,
    model_id: str | None = None,
) -> Listing[HardnessAssessmentOut]:
    """The workspace's assessments, newest first."""
    wanted = RunFilter(status, model, created_after, created_before, model_id=model_id)
    found = service.search(tx, workspace_id=caller.workspace_id, wanted=wanted, page=page)
    return page.answer(found, lambda view: HardnessAssessmentOut.of(view, base_url=settings.public_url))


@router.get(
    "/{assessment_id}",
    response_model=HardnessAssessmentOut,
    summary="Read a hardness assessment",
    responses={304: {"description": "Nothing has changed"}, **problems(401, 403, 404, 422, 503)},
)
async def get_hardness_assessment(
    assessment_id: str,
    caller: Reader,
    tx: Tx,
    settings: Config,
    wait: Wait,
    reply: Response,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """Its state, and the result once it has succeeded. `Prefer: wait=N` holds the answer until it has ended."""

    def read(other: Tx) -> AssessmentView:
        return service.get(other, workspace_id=caller.workspace_id, assessment_id=assessment_id)

    view = await wait.look(tx, read, _ended)
    etag = f'"{view.run.revision}"'
    headers = {"ETag": etag} if _ended(view) else {"ETag": etag, "Retry-After": _POLL_S}
    if unchanged(if_none_match, etag):
        return not_modified(headers)
    reply.headers.update(headers)
    wait.applied(reply.headers)
    return HardnessAssessmentOut.of(view, base_url=settings.public_url)


@router.post(
    "/{assessment_id}/cancel",
    status_code=202,
    response_model=HardnessAssessmentOut,
    summary="Cancel a hardness assessment",
    responses=problems(401, 403, 404, 409, 413, 415, 422),
)
def cancel_hardness_assessment(
    assessment_id: str, caller: Writer, tx: Tx, settings: Config, now: Now, reply: Response
) -> HardnessAssessmentOut:
    """Stops it: at once while it is queued, soon when a worker is at it."""
    view = service.cancel(
        tx, workspace_id=caller.workspace_id, assessment_id=assessment_id, actor=caller.key_id, at=now
    )
    reply.headers["Location"] = f"/v1/hardness-assessments/{assessment_id}"
    return HardnessAssessmentOut.of(view, base_url=settings.public_url)


def _ended(view: AssessmentView) -> bool:
    return view.run.status in FINAL


def _told(out: HardnessAssessmentOut) -> Mapping[str, str]:
    headers = {"Location": f"/v1/hardness-assessments/{out.id}"}
    return headers if out.status in FINAL else {**headers, "Retry-After": _POLL_S}
