"""The API as the command line calls it: one connection, failures as words, polling that costs little."""

import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final, Self

import httpx
import typer

from cli.output import Failed

Url = Annotated[str, typer.Option("--url", envvar="UNLEARN_URL", help="Address of the service.")]
Key = Annotated[str | None, typer.Option("--key", envvar="UNLEARN_KEY", help="API key.", show_envvar=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_ATTEMPTS: Final = 3
_LONGEST_WAIT_S: Final = 10.0


@dataclass
class Api:
    """A caller of one service with one key. Use as a context manager."""

    http: httpx.Client
    _seen: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict[str, tuple[str, dict[str, Any]]])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.http.close()

    def get(self, path: str, **params: str | int | None) -> dict[str, Any]:
        """The JSON answer of a GET. Raises ``Failed`` with the problem's words."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._call("GET", path, params=given).json()

    def text(self, path: str, *, accept: str = "*/*") -> str:
        """The answer of a GET as it is, in the form that ``accept`` names. Raises ``Failed`` with the reason."""
        return self._call("GET", path, headers={"Accept": accept}).text

    def download(self, path: str, to: Path, /, **params: str | None) -> None:
        """Write the answer of a GET to a file as it is. Raises ``Failed``; then the file is untouched."""
        given = {name: value for name, value in params.items() if value is not None}
        to.write_bytes(self._call("GET", path, params=given).content)

    def look(self, path: str) -> dict[str, Any]:
        """As ``get``, for looking again and again: what has not changed is not sent again (ETag)."""
        etag, known = self._seen.get(path, ("", {}))
        answer = self._call("GET", path, headers={"If-None-Match": etag} if etag else {})
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return known
        found: dict[str, Any] = answer.json()
        self._seen[path] = (answer.headers.get("ETag", ""), found)
        return found

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON answer of a POST; sent again after a broken connection without doing anything twice."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        return self._call("POST", path, json=dict(body or {}), headers=key).json()

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer of a PUT."""
        return self._call("PUT", path, json=dict(body)).json()

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer of a PATCH."""
        return self._call("PATCH", path, json=dict(body)).json()

    def delete(self, path: str) -> None:
        """A DELETE that answers nothing. Raises ``Failed`` with the reason."""
        self._call("DELETE", path)

    def pages(self, path: str, *, limit: int | None, **params: str | None) -> Iterator[dict[str, Any]]:
        """The items of a list, page after page, at most ``limit``."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = 200 if left is None else min(200, left)
            page = self.get(path, limit=size, cursor=cursor, **params)
            yield from page["data"]
            left = None if left is None else left - len(page["data"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        for attempt in range(1, _ATTEMPTS + 1):
            last = attempt == _ATTEMPTS
            try:
                answer = self.http.request(method, path, **options)
            except httpx.TransportError as error:
                if last:
                    raise Failed(f"cannot reach {self.http.base_url}: {error}") from None
                time.sleep(attempt)
                continue
            if answer.status_code not in (429, 503) or last:
                return _accepted(answer)
            time.sleep(_retry_after(answer))
        raise AssertionError("the last attempt answers or raises")


@contextmanager
def connect(url: str, key: str | None) -> Generator[Api]:
    """A caller of the service at ``url``. Raises ``Failed`` when there is no key."""
    if not key:
        raise Failed("no API key: set UNLEARN_KEY or give --key (the first one comes from: unlearn keys create)")
    headers = {"Authorization": f"Bearer {key}", "User-Agent": "unlearn-cli"}
    with Api(httpx.Client(base_url=url, headers=headers, timeout=60)) as api:
        yield api


def _retry_after(answer: httpx.Response) -> float:
    told = answer.headers.get("Retry-After", "1")
    return min(float(told) if told.isdigit() else 1.0, _LONGEST_WAIT_S)


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.is_success or answer.status_code == httpx.codes.NOT_MODIFIED:
        return answer
    raise Failed(_problem_words(answer))


def _problem_words(answer: httpx.Response) -> str:
    try:
        problem: dict[str, Any] = answer.json()
    except ValueError:
        return f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.reason_phrase}"
    words = [str(problem.get("detail") or problem.get("title") or f"status {answer.status_code}")]
    if problem.get("code"):
        words[0] += f" ({problem['code']})"
    words += [f"  {error.get('pointer') or '/'}: {error.get('detail', '')}" for error in problem.get("errors") or []]
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        words.append(f"  request {answer.headers.get('X-Request-Id', 'unknown')}")
    return "\n".join(words)
