"""Deletion requests."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api.deps import Config, Keys, Now, OpenRoom, PageIn, Tx, requires
from api.errors import InvalidRequest, pointer, problem_of, problems
from api.idempotency import Once, replay_of
from api.schemas.common import Listing, TimeIn
from api.schemas.deletion_requests import (
    BatchIn,
    BatchOut,
    BatchResultOut,
    DecisionIn,
    DeletionEventOut,
    DeletionRequestIn,
    DeletionRequestOut,
    ExtensionIn,
    Status,
    TimelineOut,
)
from api.waiting import IfNoneMatch, Wait, not_modified, unchanged
from core.access.principal import Principal
from core.deletions import service
from core.deletions.commands import ItemResult, ListFilter, RequestView, SubmitDeletion
from core.deletions.errors import DeletionFailed
from core.deletions.lifecycle import FINAL
from core.platform.errors import DomainError, Problem
from core.runs import finishing

router = APIRouter(prefix="/v1/deletion-requests", tags=["deletion requests"])

Reader = Annotated[Principal, requires("deletions:read")]
Writer = Annotated[Principal, requires("deletions:write")]

_POLL_S = 2
_LONGEST_POLL_S = 60
_ENDS = FINAL | {"needs_review"}


@router.post(
    "",
    status_code=202,
    response_model=DeletionRequestOut,
    summary="Submit a deletion request",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def submit_deletion_request(
    body: DeletionRequestIn,
    caller: Writer,
    tx: Tx,
    keyring: Keys,
    settings: Config,
    room: OpenRoom,
    now: Now,
    once: Once,
    wait: Wait,
) -> Response:
    """Accepts the request: from this answer on, its records are in no later retain set. The work follows.

    Poll `status_url`, or send `Prefer: wait=N` to wait up to 30 seconds for the end. People who are not known are no
    error: the request is completed at once with `record_count` 0. Every `external_id` can be used once.
    """

    def make() -> DeletionRequestOut:
        made = service.submit(
            tx,
            workspace_id=caller.workspace_id,
            actor=caller.key_id,
            command=body.to_command(),
            keyring=keyring,
            max_ids=settings.api.max_ids_per_request,
            at=now,
            room=room,
        )
        return DeletionRequestOut.of(made, base_url=settings.public_url, at=now)

    reply = await run_in_threadpool(once, 202, make, _told)
    if not wait.seconds or reply.status_code != 202:
        return reply
    request_id = json.loads(bytes(reply.body))["id"]
    seen = await wait.until(
        tx, lambda other: service.get(other, workspace_id=caller.workspace_id, request_id=request_id), _ended
    )
    out = DeletionRequestOut.of(seen, base_url=settings.public_url, at=now)
    headers = {**_told(out), **replay_of(reply)}
    answer = JSONResponse(out.model_dump(mode="json"), 200 if _ended(seen) else 202, headers)
    wait.applied(answer.headers)
    return answer


@router.post(
    "/batch",
    status_code=202,
    response_model=BatchOut,
    summary="Submit many deletion requests",
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
)
def submit_batch(
    body: BatchIn, request: Request, caller: Writer, tx: Tx, keyring: Keys, settings: Config, now: Now, once: Once
) -> Response:
    """Up to 1,000 requests, each accepted or refused by itself; results in order, with a status of their own."""

    def make() -> BatchOut:
        read = [_read(item) for item in body.requests]
        commands = [one for one in read if isinstance(one, SubmitDeletion)]
        made = iter(
            service.submit_many(
                tx,
                workspace_id=caller.workspace_id,
                actor=caller.key_id,
                commands=commands,
                keyring=keyring,
                max_ids=settings.api.max_ids_per_request,
                max_open=settings.api.max_open_requests,
                at=now,
            )
        )
        results = [ItemResult(error=one) if isinstance(one, DomainError) else next(made) for one in read]
        return BatchOut(results=[_result(request, one, now) for one in results])

    return once(202, make)


@router.get(
    "",
    response_model=Listing[DeletionRequestOut],
    summary="List deletion requests",
    responses=problems(400, 401, 403, 422),
)
def list_deletion_requests(
    caller: Reader,
    tx: Tx,
    page: PageIn,
    settings: Config,
    now: Now,
    status: Status | None = None,
    model: Annotated[str | None, Query(description="name or id")] = None,
    external_id: str | None = None,
    subject: Annotated[str | None, Query(description="subject id that the request's records are about")] = None,
    created_after: TimeIn | None = None,
    created_before: TimeIn | None = None,
    model_id: str | None = None,
) -> Listing[DeletionRequestOut]:
    """The workspace's requests, newest first."""
    wanted = ListFilter(status, model, external_id, subject, created_after, created_before, model_id)
    found = service.search(tx, workspace_id=caller.workspace_id, wanted=wanted, page=page)
    return page.answer(found, lambda view: DeletionRequestOut.of(view, base_url=settings.public_url, at=now))


@router.get(
    "/{request_id}",
    response_model=DeletionRequestOut,
    summary="Read a deletion request",
    responses={304: {"description": "Nothing has changed"}, **problems(401, 403, 404, 422, 503)},
)
async def get_deletion_request(
    request_id: str,
    request: Request,
    caller: Reader,
    tx: Tx,
    now: Now,
    wait: Wait,
    reply: Response,
    if_none_match: IfNoneMatch = None,
    fail_as_error: Annotated[
        bool, Query(description="answer 422 when the request has failed, for pollers that stop only at an error")
    ] = False,
) -> Any:
    """Its state. Poll with `If-None-Match` for 304 while nothing has changed, no sooner than `Retry-After` says."""
    seen = await wait.look(
        tx, lambda other: service.get(other, workspace_id=caller.workspace_id, request_id=request_id), _ended
    )
    if fail_as_error and seen.request.status == "failed":
        raise DeletionFailed(seen.error or {})
    out = DeletionRequestOut.of(seen, base_url=request.app.state.base_url, at=now)
    etag = f'"{seen.request.revision}.{out.status_detail}.{len(out.certificate_ids)}"'
    headers = {"ETag": etag, **_retry_after(seen, now)}
    if unchanged(if_none_match, etag):
        return not_modified(headers)
    reply.headers.update(headers)
    wait.applied(reply.headers)
    return out


@router.get(
    "/{request_id}/events",
    response_model=TimelineOut,
    summary="Read a request's timeline",
    responses=problems(401, 403, 404, 422),
)
def list_deletion_events(request_id: str, caller: Reader, tx: Tx) -> TimelineOut:
    """Everything that happened to the request, in order."""
    events = service.timeline(tx, workspace_id=caller.workspace_id, request_id=request_id)
    return TimelineOut(data=[DeletionEventOut.of(event) for event in events])


@router.post(
    "/{request_id}/cancel",
    response_model=DeletionRequestOut,
    summary="Cancel a deletion request",
    responses=problems(401, 403, 404, 409, 413, 415, 422),
)
def cancel_deletion_request(request_id: str, caller: Writer, tx: Tx, settings: Config, now: Now) -> DeletionRequestOut:
    """Withdraws a request that is still `pending`: its records are free again unless another request covers them."""
    view = service.cancel(tx, workspace_id=caller.workspace_id, request_id=request_id, actor=caller.key_id, at=now)
    return DeletionRequestOut.of(view, base_url=settings.public_url, at=now)


@router.delete(
    "/{request_id}",
    response_model=DeletionRequestOut,
    summary="Cancel a deletion request (as DELETE)",
    responses=problems(401, 403, 404, 409, 422),
)
def delete_deletion_request(request_id: str, caller: Writer, tx: Tx, settings: Config, now: Now) -> DeletionRequestOut:
    """The same as `POST …/cancel`; the request and its timeline stay readable."""
    return cancel_deletion_request(request_id, caller, tx, settings, now)


@router.post(
    "/{request_id}/extend",
    response_model=DeletionRequestOut,
    summary="Extend a request's deadline",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def extend_deletion_request(
    request_id: str, body: ExtensionIn, caller: Writer, tx: Tx, settings: Config, now: Now
) -> DeletionRequestOut:
    """Moves `due_at` by what the regulation allows (`gdpr`: two months, `ccpa`: 45 days), once and before it is over.

    Telling the person is yours to do.
    """
    view = service.extend(
        tx,
        workspace_id=caller.workspace_id,
        request_id=request_id,
        reason=body.reason,
        actor=caller.key_id,
        at=now,
    )
    return DeletionRequestOut.of(view, base_url=settings.public_url, at=now)


@router.post(
    "/{request_id}/approve",
    response_model=DeletionRequestOut,
    summary="Approve a result that waits for a person",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def approve_deletion_request(
    request_id: str, body: DecisionIn, caller: Writer, tx: Tx, settings: Config, now: Now
) -> DeletionRequestOut:
    """Publishes what the run has made, for every request of that run.

    If the model has a newer version by now, or the run was cancelled, the requests are run again instead.
    """
    return _decide(request_id, body, caller, tx, settings, now, approve=True)


@router.post(
    "/{request_id}/reject",
    response_model=DeletionRequestOut,
    summary="Reject a result that waits for a person",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422),
)
def reject_deletion_request(
    request_id: str, body: DecisionIn, caller: Writer, tx: Tx, settings: Config, now: Now
) -> DeletionRequestOut:
    """Ends the run and every request of it as `failed`; nothing is published.

    The records stay out of every later retain set: ask again with a new request, for example under another policy.
    """
    return _decide(request_id, body, caller, tx, settings, now, approve=False)


def _decide(
    request_id: str, body: DecisionIn, caller: Principal, tx: Tx, settings: Config, now: datetime, *, approve: bool
) -> DeletionRequestOut:
    finishing.decide(
        tx,
        workspace_id=caller.workspace_id,
        request_id=request_id,
        approve=approve,
        comment=body.comment,
        actor=caller.key_id,
        at=now,
    )
    view = service.get(tx, workspace_id=caller.workspace_id, request_id=request_id)
    return DeletionRequestOut.of(view, base_url=settings.public_url, at=now)


def _ended(view: RequestView) -> bool:
    return view.request.status in _ENDS


def _told(out: DeletionRequestOut) -> Mapping[str, str]:
    headers = {"Location": f"/v1/deletion-requests/{out.id}"}
    return headers if out.status in FINAL else {**headers, "Retry-After": str(_POLL_S)}


def _retry_after(view: RequestView, now: datetime) -> Mapping[str, str]:
    request = view.request
    if request.status in FINAL:
        return {}
    held_s = (request.hold_until - now).total_seconds() if request.hold_until else 0
    waits_long = request.status == "needs_review" or held_s > _LONGEST_POLL_S
    return {"Retry-After": str(_LONGEST_POLL_S if waits_long else max(_POLL_S, int(held_s)))}


def _read(item: Any) -> SubmitDeletion | DomainError:
    try:
        return DeletionRequestIn.model_validate(item).to_command()
    except ValidationError as error:
        wrong = [
            Problem(pointer(one["loc"]), one["type"], one["msg"].removeprefix("Value error, "))
            for one in error.errors(include_url=False, include_input=False)
        ]
        return InvalidRequest("The request is not acceptable.", wrong)


def _result(request: Request, item: ItemResult, at: datetime) -> BatchResultOut:
    if item.view is not None:
        out = DeletionRequestOut.of(item.view, base_url=request.app.state.base_url, at=at)
        return BatchResultOut(status=202, request=out)
    assert item.error is not None  # noqa: S101
    problem = problem_of(request, item.error)
    return BatchResultOut(status=problem.status, problem=problem)
