"""Every failure as ``application/problem+json`` (RFC 9457), and the one table from error class to status."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.access.idempotency import BadIdempotencyKey, IdempotencyKeyRequired
from core.access.principal import MissingScope
from core.access.service import Unauthenticated
from core.access.tokens import ScopeNotGranted
from core.deletions.errors import TooManyOpenRequests
from core.opendsr.errors import InvalidSubjectRequest
from core.platform.errors import Conflict, DependencyDown, DomainError, InvalidInput, NotFound, Problem
from core.platform.paging import BadCursor

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
_MOST_PROBLEMS: Final = 20


class MalformedRequest(DomainError):
    """The request cannot be read: broken JSON, wrong encoding, or characters that no field may hold."""

    code = "malformed_request"


class InvalidRequest(InvalidInput):
    """The request can be read, but fields are missing, unknown, or of the wrong type or range; ``errors`` say which."""

    code = "invalid_request"


class RouteNotFound(NotFound):
    """There is nothing at this path."""

    code = "route_not_found"


class MethodNotAllowed(DomainError):
    """The path exists but not with this method; ``Allow`` lists those it has."""

    code = "method_not_allowed"


class NotAcceptable(DomainError):
    """None of the media types in ``Accept`` can be given here."""

    code = "not_acceptable"


class PreconditionFailed(DomainError):
    """The object has changed since: ``If-Match`` does not hold."""

    code = "precondition_failed"


class PayloadTooLarge(DomainError):
    """The body is longer than this service takes."""

    code = "payload_too_large"


class UnsupportedMediaType(DomainError):
    """Bodies must be ``application/json``."""

    code = "unsupported_media_type"


class TooManyRequests(DomainError):
    """Too many requests in a short time; ``Retry-After`` says when to go on."""

    code = "too_many_requests"

    @classmethod
    def until(cls, seconds: int) -> "TooManyRequests":
        """Worth trying again in so many seconds."""
        error = cls("Too many requests; the headers say how many are allowed.")
        error.retry_after_s = seconds
        return error


class InternalError(DomainError):
    """Something broke on our side. The request id in ``instance`` finds it in the logs."""

    code = "internal_error"


STATUS: Final[Mapping[type[DomainError], int]] = {
    MalformedRequest: 400,
    BadCursor: 400,
    BadIdempotencyKey: 400,
    IdempotencyKeyRequired: 400,
    ScopeNotGranted: 400,
    Unauthenticated: 401,
    MissingScope: 403,
    InvalidSubjectRequest: 400,
    NotFound: 404,
    MethodNotAllowed: 405,
    NotAcceptable: 406,
    Conflict: 409,
    PreconditionFailed: 412,
    PayloadTooLarge: 413,
    UnsupportedMediaType: 415,
    InvalidInput: 422,
    TooManyRequests: 429,
    TooManyOpenRequests: 429,
    InternalError: 500,
    DependencyDown: 503,
}
"""Subclasses inherit their parent's status unless they are listed."""


def status_of(kind: type[DomainError]) -> int:
    """The status of an error class. Raises ``LookupError`` for one without entry (a test walks them all)."""
    for ancestor in kind.__mro__:
        if ancestor in STATUS:
            return STATUS[cast(type[DomainError], ancestor)]
    raise LookupError(f"{kind.__name__} has no status")


def title_of(kind: type[DomainError]) -> str:
    """The code as words."""
    return kind.code.replace("_", " ").capitalize()


class ErrorItem(BaseModel):
    """One thing that is wrong with the input."""

    pointer: str = Field(description="JSON Pointer into the request body; empty: the request as a whole")
    code: str
    detail: str
    parameter: str | None = Field(None, description="path, query or header parameter, when the body is not at fault")


class ProblemOut(BaseModel):
    """A failure (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "https://unlearn.example/problems/invalid_request",
                    "title": "Invalid request",
                    "status": 422,
                    "detail": "The request is not acceptable.",
                    "instance": "req_01k9d3v6m2q8r4t6w8y0a2c4e6",
                    "code": "invalid_request",
                    "errors": [{"pointer": "/model", "code": "missing", "detail": "Field required"}],
                }
            ]
        }
    )

    type: str = Field(description="stable address of a page that explains the problem")
    title: str
    status: int
    detail: str
    instance: str = Field(description="id of this request, as in X-Request-Id")
    code: str = Field(description="stable and made for programs")
    errors: list[ErrorItem] = []


_LIKE_A_FIELD: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MEANING: Final[Mapping[int, str]] = {
    400: "The request cannot be read",
    401: "No valid credential",
    403: "The key lacks the scope that this call needs",
    404: "No such object in this workspace",
    405: "The path does not know this method",
    406: "None of the accepted media types is offered",
    409: "The state of things does not allow it",
    412: "The object has changed since",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "The request is not acceptable",
    429: "Too many requests",
    500: "Something broke on our side",
    503: "A part that is needed does not answer; try again",
}


def meaning(status: int) -> str:
    """What a status says, in the words of the OpenAPI document."""
    return _MEANING[status]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's ``responses`` for the statuses."""
    return {
        status: {
            "description": meaning(status),
            "model": ProblemOut,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}},
        }
        for status in statuses
    }


def render(
    error: DomainError, *, base_url: str, request_id: str, items: Sequence[Mapping[str, Any]] | None = None
) -> Response:
    """The error as an answer."""
    kind = type(error)
    status = status_of(kind)
    body: dict[str, Any] = {
        "type": f"{base_url}/problems/{kind.code}",
        "title": title_of(kind),
        "status": status,
        "detail": error.detail,
        "instance": request_id,
        "code": kind.code,
    }
    listed = items if items is not None else [_item(one) for one in error.problems]
    if listed:
        body["errors"] = list(listed[:_MOST_PROBLEMS])
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="unlearn"'
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def answer(request: Request, error: DomainError, items: Sequence[Mapping[str, Any]] | None = None) -> Response:
    """The error as an answer to this request."""
    return render(
        error, base_url=request.app.state.base_url, request_id=request.scope["state"]["request_id"], items=items
    )


def problem_of(request: Request, error: DomainError) -> ProblemOut:
    """The error as a part of an answer to this request."""
    return ProblemOut.model_validate_json(bytes(answer(request, error).body))


def _item(problem: Problem) -> dict[str, Any]:
    return {"pointer": problem.pointer, "code": problem.code, "detail": problem.detail}


def pointer(parts: Iterable[object]) -> str:
    """The JSON Pointer (RFC 6901) to a place in a document.

    A member that is called like no field of ours is not repeated: it may be anything.
    """
    return "".join(f"/{part if _LIKE_A_FIELD.fullmatch(str(part)) else '…'}" for part in parts)


def _field_item(error: Mapping[str, Any]) -> dict[str, Any]:
    place, *parts = error["loc"]
    detail = error["msg"].removeprefix("Value error, ")
    item = {"pointer": pointer(parts) if place == "body" else "", "code": error["type"], "detail": detail}
    if place != "body" and parts:
        item["parameter"] = str(parts[0])
    return item


async def _on_domain_error(request: Request, error: Exception) -> Response:
    return answer(request, cast(DomainError, error))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    found = cast(RequestValidationError, error).errors()
    if any(one["type"] == "json_invalid" for one in found):
        return answer(request, MalformedRequest("The body is not valid JSON."))
    return answer(request, InvalidRequest("The request is not acceptable."), [_field_item(one) for one in found])


async def _on_http_exception(request: Request, error: Exception) -> Response:
    known: Mapping[int, tuple[type[DomainError], str]] = {
        400: (MalformedRequest, "The request cannot be read."),
        404: (RouteNotFound, "There is nothing at this path."),
        405: (MethodNotAllowed, "The path does not know this method."),
        406: (NotAcceptable, "None of the accepted media types is offered."),
        413: (PayloadTooLarge, "The body is too large."),
        415: (UnsupportedMediaType, "Bodies must be application/json."),
    }
    raised = cast(HTTPException, error)
    kind, detail = known.get(raised.status_code, (InternalError, "Something broke on our side."))
    reply = answer(request, kind(detail))
    reply.headers.update(raised.headers or {})
    if kind is MethodNotAllowed:
        reply.headers["Allow"] = ", ".join(_methods_at(request))
    return reply


def _methods_at(request: Request) -> list[str]:
    """Those of every route that matches the path: the framework names only the first one's."""
    routes = (found.route for found in iter_route_contexts(request.app.routes))
    here = [route for route in routes if isinstance(route, Route) and route.path_regex.match(request.scope["path"])]
    return sorted({method for route in here for method in route.methods or ()})


async def _on_lost_database(request: Request, error: Exception) -> Response:
    log.warning("database_down", kind=type(error).__name__)
    return answer(request, DependencyDown("The database does not answer."))


async def _on_database_error(request: Request, error: Exception) -> Response:
    if cast(DBAPIError, error).connection_invalidated:
        return await _on_lost_database(request, error)
    return await _on_bug(request, error)


async def _on_bad_value(request: Request, error: Exception) -> Response:
    log.warning("value_refused_by_database", kind=type(cast(DataError, error).orig).__name__)
    return answer(request, InvalidRequest("A value is out of range."))


async def _on_bug(request: Request, error: Exception) -> Response:
    return bug(error, base_url=request.app.state.base_url, request_id=request.scope["state"]["request_id"])


def bug(error: Exception, *, base_url: str, request_id: str) -> Response:
    """The answer to what nobody expected: logged whole, told as nothing but the request id."""
    log.error("unhandled_error", exc_info=error)
    return render(InternalError("Something broke on our side."), base_url=base_url, request_id=request_id)


def install(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem document."""
    app.add_exception_handler(DomainError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for lost in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(lost, _on_lost_database)
    app.add_exception_handler(DataError, _on_bad_value)
    app.add_exception_handler(DBAPIError, _on_database_error)
