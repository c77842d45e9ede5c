"""Runs."""

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api.deps import Db, Now, PageIn, Tx, requires
from api.errors import NotAcceptable, problems
from api.following import Place, follow
from api.schemas.common import Listing, TimeIn
from api.schemas.runs import RecordScoreOut, RunOut, Status, StepsOut
from api.waiting import IfNoneMatch, Wait, not_modified, unchanged
from core.access.principal import Principal
from core.runs import service
from core.runs.lifecycle import FINAL, Mode
from core.runs.repository import RunFilter
from core.runs.service import RunView

router = APIRouter(prefix="/v1/runs", tags=["runs"])

Reader = Annotated[Principal, requires("runs:read")]
Writer = Annotated[Principal, requires("runs:write")]

_POLL_S = "2"
_ENDS = FINAL | {"needs_review"}


@router.get("", response_model=Listing[RunOut], summary="List runs", responses=problems(400, 401, 403, 422))
def list_runs(
    caller: Reader,
    tx: Tx,
    page: PageIn,
    status: Status | None = None,
    model: Annotated[str | None, Query(description="name or id")] = None,
    created_after: TimeIn | None = None,
    created_before: TimeIn | None = None,
    model_id: str | None = None,
    mode: Annotated[Mode, Query(description="`assess` lists the runs of hardness assessments instead")] = Mode.UNLEARN,
) -> Listing[RunOut]:
    """The workspace's runs that unlearn, newest first. Hardness assessments have a list of their own."""
    wanted = RunFilter(status, model, created_after, created_before, mode, model_id)
    return page.answer(service.search(tx, workspace_id=caller.workspace_id, wanted=wanted, page=page), RunOut.of)


@router.get(
    "/{run_id}",
    response_model=RunOut,
    summary="Read a run",
    responses={304: {"description": "Nothing has changed"}, **problems(401, 403, 404, 422, 503)},
)
async def get_run(
    run_id: str, caller: Reader, tx: Tx, wait: Wait, reply: Response, if_none_match: IfNoneMatch = None
) -> Any:
    """Its state, progress, hardness and metrics. `Prefer: wait=N` holds the answer until the run has ended."""

    def read(other: Tx) -> RunView:
        return service.get(other, workspace_id=caller.workspace_id, run_id=run_id)

    view = await wait.look(tx, read, _ended)
    etag = f'"{view.run.revision}"'
    headers = {"ETag": etag} if _ended(view) else {"ETag": etag, "Retry-After": _POLL_S}
    if unchanged(if_none_match, etag):
        return not_modified(headers)
    reply.headers.update(headers)
    wait.applied(reply.headers)
    return RunOut.of(view)


@router.get(
    "/{run_id}/steps",
    response_model=StepsOut,
    summary="Read a run's step ledger",
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(401, 403, 404, 406, 422),
    },
)
def list_steps(
    run_id: str,
    caller: Reader,
    tx: Tx,
    after: Annotated[int, Query(ge=-1, le=2**31 - 1, description="steps behind this one")] = -1,
    accept: Annotated[str, Header(description="`application/json` or `text/csv`")] = "*/*",
) -> Any:
    """One row a step of the latest attempt, up to 10,000: losses, hardness, branch shares, norms, seconds.

    An attempt that went on from a checkpoint has the steps behind it in its ledger too: every step is there once.
    """
    run = service.get(tx, workspace_id=caller.workspace_id, run_id=run_id).run
    rows = [step.row for step in service.steps(tx, workspace_id=caller.workspace_id, run_id=run_id, after=after)]
    if _wants_csv(accept):
        return Response(_as_csv(rows, leading=("step",)), media_type="text/csv")
    return StepsOut(data=rows, attempt=run.attempt)


@router.get(
    "/{run_id}/records",
    response_model=Listing[RecordScoreOut],
    summary="List what was measured of each forget record",
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(400, 401, 403, 404, 406, 422),
    },
)
def list_records(
    run_id: str,
    caller: Reader,
    tx: Tx,
    page: PageIn,
    accept: Annotated[str, Header(description="`application/json`, or `text/csv` for all rows at once")] = "*/*",
) -> Any:
    """Losses before and after, by record id: an average hides the record that is still known.

    Kept for the policy's `recheck_days` after the run; empty afterwards. At most 10,000 records a run.
    """
    if _wants_csv(accept):
        found = service.all_scores(tx, workspace_id=caller.workspace_id, run_id=run_id)
        return Response(
            _as_csv([score.row for score in found], leading=tuple(RecordScoreOut.model_fields)), media_type="text/csv"
        )
    return page.answer(
        service.scores(tx, workspace_id=caller.workspace_id, run_id=run_id, page=page), RecordScoreOut.of
    )


@router.get(
    "/{run_id}/events",
    summary="Follow a run",
    response_class=StreamingResponse,
    responses={
        200: {"description": "Server-Sent Events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The run has ended and you have seen everything: do not come back"},
        **problems(401, 403, 404, 422),
    },
)
async def follow_run(
    run_id: str,
    caller: Reader,
    tx: Tx,
    database: Db,
    request: Request,
    last_event_id: Annotated[str | None, Header(description="`id` of the last event seen: goes on behind it")] = None,
) -> Response:
    """Server-Sent Events: `status` (the timeline), `step` (the ledger) and `progress`, until the run has ended.

    A connection that broke is resumed with `Last-Event-ID`, as browsers do by themselves.
    """
    seen = Place.read(last_event_id)
    workspace_id = caller.workspace_id

    def look(other: Tx, place: Place) -> service.News:
        return service.news(
            other,
            workspace_id=workspace_id,
            run_id=run_id,
            event=place.event,
            attempt=place.attempt,
            step=place.step,
        )

    news = await run_in_threadpool(look, tx, seen)
    if last_event_id is not None and news.run.status in FINAL and not news.events and not news.steps:
        return Response(status_code=204)
    await database.end_early(tx)
    stream = follow(database, look, seen, gone=request.is_disconnected)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.post(
    "/{run_id}/cancel",
    status_code=202,
    response_model=RunOut,
    summary="Cancel a run",
    responses=problems(401, 403, 404, 409, 413, 415, 422),
)
def cancel_run(run_id: str, caller: Writer, tx: Tx, now: Now, reply: Response) -> RunOut:
    """Stops the run at its next step; it publishes nothing.

    Its deletion requests then wait for a person: approve one to run them again, reject one to end them.
    """
    view = service.cancel(tx, workspace_id=caller.workspace_id, run_id=run_id, actor=caller.key_id, at=now)
    reply.headers["Location"] = f"/v1/runs/{run_id}"
    return RunOut.of(view)


def _ended(view: RunView) -> bool:
    return view.run.status in _ENDS


def _wants_csv(accept: str) -> bool:
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
    for kind in kinds:
        if kind in ("application/json", "application/*", "*/*", ""):
            return False
        if kind in ("text/csv", "text/*"):
            return True
    raise NotAcceptable("Rows are given as application/json or text/csv.")


def _as_csv(rows: Sequence[dict[str, Any]], *, leading: Sequence[str]) -> str:
    """Every column of any row: those of ``leading`` first and in that order, whatever order the database keeps."""
    found = dict.fromkeys(name for row in rows for name in row)
    columns = [*(name for name in leading if name in found), *(name for name in found if name not in leading)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or leading[:1], restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
