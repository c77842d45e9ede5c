"""What happens to every request, as plain ASGI classes: id, log, metrics, headers, body checks, last resort."""

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import MalformedRequest, PayloadTooLarge, UnsupportedMediaType, bug, render
from api.metrics import RequestMetrics
from core.platform.errors import DomainError
from core.platform.ids import new_id

log = structlog.get_logger()

Change = Callable[[Scope, MutableHeaders], None]
"""Something done to the headers of an answer, whatever has made it."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,127}")
_DEEPEST: Final = 64
RAW_PREFIXES: Final = ("/v1/storage/", "/opendsr/", "/oauth/")
"""Paths whose bodies are files, are signed for, or are no JSON: they count and check their bytes themselves."""
DOCUMENT_PATHS: Final = ("/docs", "/redoc", "/problems", "/static/")


class RequestId:
    """Gives each request an id (the caller's, if well-formed) and binds it to the log."""

    def __init__(self, app: ASGIApp) -> None:
        """Wraps ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything but HTTP through."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        return await self._app(scope, receive, send)


class AccessLog:
    """One line a request, and its numbers. Paths appear as templates: no ids, no query strings."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        """Counts in ``metrics``."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything but HTTP through."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            elapsed = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            self._metrics.observe(scope["method"], route, status, elapsed)
            # State is shared with the request: who called is known once the credential has been checked.
            caller = scope["state"].get("principal")
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                duration_ms=round(elapsed * 1000, 1),
                key_id=caller.key_id if caller else None,
                workspace_id=caller.workspace_id if caller else None,
            )


class AnswerHeaders:
    """Lets each of several have the headers of every answer before they leave."""

    def __init__(self, app: ASGIApp, *, changes: Sequence[Change]) -> None:
        """``changes`` in the order in which they are made; they know the request by its scope."""
        self._app = app
        self._changes = changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything but HTTP through."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for change in self._changes:
                    change(scope, headers)
            await send(message)

        return await self._app(scope, receive, watch)


def name_request(scope: Scope, headers: MutableHeaders) -> None:
    """Say which request it was."""
    headers["X-Request-Id"] = scope["state"]["request_id"]


def secure(scope: Scope, headers: MutableHeaders) -> None:
    """Keep browsers from guessing, caching or framing."""
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    if not scope["path"].startswith(DOCUMENT_PATHS):
        headers.setdefault("Cache-Control", "no-store")


def keep_to_https(_scope: Scope, headers: MutableHeaders) -> None:
    """Tell callers who reach us by TLS to keep to it."""
    headers["Strict-Transport-Security"] = "max-age=31536000"


def tell_mode(scope: Scope, headers: MutableHeaders) -> None:
    """Say in every answer to a test key that it is one."""
    caller = scope["state"].get("principal")
    if caller is not None and caller.mode == "test":
        headers["X-Unlearn-Mode"] = "test"


class LastResort:
    """Answers 500 with nothing but the request id when something unforeseen escapes."""

    def __init__(self, app: ASGIApp, *, base_url: str) -> None:
        """``base_url``: where problem types are explained."""
        self._app = app
        self._base_url = base_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises only when the answer has begun already: then the connection must break off."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if begun:
                raise
            answer = bug(error, base_url=self._base_url, request_id=scope["state"]["request_id"])
            await answer(scope, receive, send)


class JsonBody:
    """Takes JSON bodies up to a limit, counted while reading, and refuses what could not be stored or walked safely."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int, base_url: str) -> None:
        """``base_url``: where problem types are explained."""
        self._app = app
        self._limit_bytes = limit_bytes
        self._base_url = base_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 400, 413 or 415 itself; otherwise hands on the body it has read."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            _check_target(scope)
            if scope["path"].startswith(RAW_PREFIXES) or scope["method"] in ("GET", "HEAD", "OPTIONS"):
                return await self._app(scope, receive, send)
            body = await self._read(scope, receive)
            if body is None:  # the caller has gone
                return None
            if body:
                _check_type(scope)
                check_json(body)
        except DomainError as error:
            reply = render(error, base_url=self._base_url, request_id=scope["state"]["request_id"])
            return await reply(scope, receive, send)
        return await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit_bytes:
            raise self._too_large()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._limit_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body may have at most {self._limit_bytes} bytes.")


def check_json(body: bytes) -> None:
    """Raises ``MalformedRequest`` unless ``body`` is strict JSON in UTF-8 that Postgres can store and code can walk."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise MalformedRequest("The body is nested too deeply.") from None
    except ValueError:
        raise MalformedRequest("The body is not valid JSON in UTF-8.") from None
    _walk(value)


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _walk(value: object) -> None:
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        deeper: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                deeper.extend(one)  # pyright: ignore[reportUnknownArgumentType]
                deeper.extend(one.values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            elif isinstance(one, list):
                deeper.extend(one)  # pyright: ignore[reportUnknownArgumentType]
            elif isinstance(one, str):
                _check_text(one)
            elif isinstance(one, float) and one in (float("inf"), float("-inf")):
                raise MalformedRequest("A number in the body is too large.")
        if not deeper:
            return
        level = deeper
    raise MalformedRequest("The body is nested too deeply.")


def _check_text(text: str) -> None:
    if "\0" in text or not _is_unicode(text):
        raise MalformedRequest("A text in the body holds a character that is not allowed.")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _check_target(scope: Scope) -> None:
    if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
        raise MalformedRequest("The address holds a character that is not allowed.")


def _check_type(scope: Scope) -> None:
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType("Bodies must be application/json.")


def _replay(body: bytes, receive: Receive) -> Receive:
    pending = [body]

    async def read() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return read
