"""What every answer below the OpenDSR bases has in common, whoever made it: one envelope for failures, one signature.

It stands outside of everything that may answer (body checks, authentication, routing), so that framework-made errors
come in the standard's envelope as well; and inside of nothing that would change a body's bytes after they are signed.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import MEDIA_TYPE as PROBLEM
from api.opendsr.paths import place_of
from core.opendsr.messages import encode
from core.opendsr.signing import Signer

JSON: Final = "application/json"
LEGACY: Final = "opendsr_legacy"
"""Key in the request's state: the answer carries the headers of OpenGDPR 1.0 as well."""
_OFF: Final = "OpenDSR is not set up on this service."
_STATUS: Final[Mapping[int, int]] = {422: 400}
"""Whatever is wrong in the body is 400 to the standard."""


class OpenDsrFrame:
    """Gives paths their canonical form, failures the standard's envelope, and JSON answers their signature."""

    def __init__(self, app: ASGIApp, signer: Signer | None) -> None:
        """``signer`` None: the service offers no OpenDSR."""
        self._app = app
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything but HTTP below the OpenDSR bases through."""
        place = place_of(scope["path"]) if scope["type"] == "http" else None
        if place is None:
            return await self._app(scope, receive, send)
        scope["path"], scope["raw_path"] = place.path, place.path.encode("utf-8", errors="replace")
        scope["state"][LEGACY] = place.legacy
        if self._signer is None:
            return await _Answer(404, [(b"content-type", JSON.encode())], _envelope(404, {"detail": _OFF})).send(send)
        answer = _Answer()
        await self._app(scope, receive, answer.take)
        await self._finish(answer, scope)
        return await answer.send(send)

    async def _finish(self, answer: "_Answer", scope: Scope) -> None:
        assert self._signer is not None  # noqa: S101
        headers = answer.headers
        kind = headers.get("content-type", "")
        if kind.startswith(PROBLEM):
            answer.status = _STATUS.get(answer.status, answer.status)
            answer.body = _envelope(answer.status, json.loads(answer.body))
            headers["content-type"], headers["content-length"] = JSON, str(len(answer.body))
            headers["cache-control"] = "no-store"
        if headers.get("content-type", "").startswith(JSON):
            legacy = bool(scope["state"][LEGACY])
            for name, value in (await run_in_threadpool(self._signer.headers, answer.body, legacy=legacy)).items():
                headers[name] = value


class _Answer:
    """An answer held back until it is whole."""

    def __init__(self, status: int = 500, headers: list[tuple[bytes, bytes]] | None = None, body: bytes = b"") -> None:
        self.status = status
        self.body = body
        self._raw: list[tuple[bytes, bytes]] = headers or []

    @property
    def headers(self) -> MutableHeaders:
        """Its headers, to be changed in place."""
        return MutableHeaders(raw=self._raw)

    async def take(self, message: Message) -> None:
        """One ASGI message of the answer."""
        if message["type"] == "http.response.start":
            self.status, self._raw = message["status"], list(message.get("headers", []))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    async def send(self, send: Send) -> None:
        """Pass it on."""
        headers = self.headers
        headers["content-length"] = str(len(self.body))
        await send({"type": "http.response.start", "status": self.status, "headers": self._raw})
        await send({"type": "http.response.body", "body": self.body})


def _envelope(status: int, problem: Mapping[str, Any]) -> bytes:
    """A problem document in the form of the standard."""
    detail = str(problem.get("detail", ""))
    listed = cast("list[Mapping[str, Any]]", problem.get("errors") or [])
    errors = [
        {"domain": "Validation", "reason": _reason(one["code"]), "message": f"{one['pointer']} {one['detail']}".strip()}
        for one in listed
    ]
    code = str(problem.get("code", "not_found"))
    domain = "Validation" if status == 400 else "Request" if status < 500 else "Service"
    whole = {"domain": domain, "reason": _reason(code), "message": detail}
    return encode({"error": {"code": status, "message": detail, "errors": errors or [whole]}})


def _reason(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("_"))
