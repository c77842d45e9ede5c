"""One HTTP call to an address that a user supplied.

The name is resolved once and the connection goes to an address that was checked, with the original name for SNI,
certificate and ``Host``. No redirects, no proxies, no decompression; the whole call ends by one deadline, however
slowly the other side drips.
"""

import errno
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpcore
import httpx

from core.platform.errors import InvalidInput
from core.platform.settings import WebhookSettings
from core.webhooks.addresses import RefusedAddress, Resolve, Rules, callable_addresses, check_url

LONGEST_ANSWER_BYTES: Final = 16_384
_KEPT_CHARACTERS: Final = 1024
_SECONDS: Final = re.compile(r"\d{1,9}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: a status, or the class of error that kept one from coming."""

    status_code: int | None
    error: str | None
    latency_ms: int
    retry_after_s: int | None = None
    response: str | None = None
    ours: bool = False
    """The failure is not the other side's: our network or resolver is down, or we have run out of something."""

    @property
    def delivered(self) -> bool:
        """Whether the other side has taken it."""
        return self.status_code is not None and 200 <= self.status_code < 300


Http = Callable[[str, Mapping[str, str], bytes], Answer]
"""``(url, headers, body)``: POSTs and never raises for what the other side does."""


class HttpSender:
    """Calls by the rules in the settings."""

    def __init__(
        self, settings: WebhookSettings, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """Raises ``ValueError`` when the settings' networks cannot be read."""
        self._settings = settings
        self._rules = Rules.of(settings)
        self._resolve = resolve
        self._tls = tls or httpx.create_ssl_context()

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST ``body``. Failures of the other side come back as an ``Answer`` with ``error``."""
        began = time.monotonic()
        try:
            status, retry_after, text = self._post(url, headers, body, began + self._settings.timeout_s)
        except _FAILURES as error:
            return Answer(None, _class_of(error), _since(began), ours=_is_ours(error))
        return Answer(status, None, _since(began), retry_after, text)

    def _post(
        self, url: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> tuple[int, int | None, str | None]:
        target = httpcore.URL(check_url(url, self._rules))
        host = target.host.decode("ascii")
        port = target.port or (443 if target.scheme == b"https" else 80)
        backend = _Pinned(callable_addresses(host, port, self._rules, self._resolve), deadline)
        timeouts = {"connect": self._settings.connect_timeout_s, "read": None, "write": None, "pool": None}
        sent: dict[bytes | str, bytes | str] = {
            **headers,
            "Host": _host_header(target),
            "Content-Length": str(len(body)),
            "Accept-Encoding": "identity",
        }
        with (
            httpcore.ConnectionPool(ssl_context=self._tls, network_backend=backend, http2=False) as pool,
            pool.stream("POST", target, headers=sent, content=body, extensions={"timeout": timeouts}) as answer,
        ):
            text = _start_of(answer.iter_stream())
            return answer.status, _retry_after(answer.headers), text


_FAILURES: Final = (
    InvalidInput,
    RefusedAddress,
    OSError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
)


def _class_of(error: Exception) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return "timeout"
    if (
        isinstance(error, ssl.SSLError)
        or isinstance(error.__cause__, ssl.SSLError)
        or isinstance(error.__context__, ssl.SSLError)
    ):
        return "tls"
    if isinstance(error, httpcore.ProtocolError):
        return "protocol"
    return "unreachable"


_OURS: Final = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
)
_RESOLVER_DOWN: Final = frozenset({socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM})


def _is_ours(error: BaseException) -> bool:
    return any(
        one.errno in (_RESOLVER_DOWN if isinstance(one, socket.gaierror) else _OURS)
        for one in _chain(error)
        if isinstance(one, OSError)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _host_header(target: httpcore.URL) -> str:
    host = target.host.decode("ascii")
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if target.port is None else f"{bracketed}:{target.port}"


def _start_of(chunks: Iterable[bytes]) -> str | None:
    taken = bytearray()
    for chunk in chunks:
        taken += chunk
        if len(taken) >= LONGEST_ANSWER_BYTES:
            break
    text = bytes(taken[:LONGEST_ANSWER_BYTES]).decode("utf-8", errors="replace").replace("\0", "")
    return text[:_KEPT_CHARACTERS] or None


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name.lower() == b"retry-after":
            return _seconds(value.decode("latin-1").strip())
    return None


def _seconds(text: str) -> int | None:
    """From a number of seconds or an HTTP date; None when it is neither, or over."""
    if _SECONDS.fullmatch(text):
        return int(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    left = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return round(left) if left > 0 else None


class _Timed(httpcore.NetworkStream):
    """A stream on which nothing takes longer than until the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _left(self, timeout: float | None, late: type[httpcore.TimeoutException]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise late
        return left if timeout is None else min(timeout, left)


class _Pinned(httpcore.NetworkBackend):
    """Connects to the addresses that were checked, whatever name it is asked for."""

    def __init__(self, addresses: tuple[str, ...], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        for place, address in enumerate(self._addresses, start=1):
            left = self._deadline - time.monotonic()
            try:
                stream = self._inner.connect_tcp(
                    address, port, max(0.001, min(timeout or left, left)), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if place == len(self._addresses):
                    raise
            else:
                return _Timed(stream, self._deadline)
        raise httpcore.ConnectError("no address")
