"""Stands before an object store and spoils what passes: real HTTP, real broken connections.

With no trouble set it hands every request on as it is. A trouble concerns the requests that it names, by method and by
a part of the path:

``refuse``       the connection is reset, before anything is answered
``unavailable``  503, as a store says it that is overloaded
``full``         507, as a store says it that has no room
``slow``         every request takes a second longer
``cut``          a body, the caller's or the store's, breaks off in the middle
``hold``         nothing happens until the trouble is over
"""

import http.client
import socket
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.builders.waiting import wait_until

Kind = Literal["refuse", "unavailable", "full", "slow", "cut", "hold"]
SLOW_S = 1.0
_OF_THE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_PLAIN: dict[Kind, tuple[int, str]] = {"unavailable": (503, "SlowDown"), "full": (507, "InsufficientStorage")}


@dataclass
class Trouble:
    """What happens to which requests. ``met``: how many it has happened to so far."""

    kind: Kind
    method: str | None = None
    path: str = ""
    times: int | None = None
    met: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def wait_met(self, times: int = 1) -> None:
        """Until so many requests have met it."""
        wait_until(lambda: self.met >= times, timeout_s=60, what=f"a request to {self.kind}")


class StoreProxy:
    """A proxy on a port of its own. Use as a context manager."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self._troubles: list[Trouble] = []

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def trouble(
        self, kind: Kind, *, method: str | None = None, path: str = "", times: int | None = None
    ) -> Generator[Trouble]:
        """Trouble for as long as the block lasts, or for the first ``times`` requests that it concerns."""
        trouble = Trouble(kind, method, path, times)
        with self._lock:
            self._troubles.append(trouble)
        try:
            yield trouble
        finally:
            with self._lock:
                self._troubles.remove(trouble)
            trouble.over.set()

    def met_by(self, method: str, path: str) -> Trouble | None:
        """The trouble that a request has, which counts it."""
        with self._lock:
            for trouble in self._troubles:
                concerned = trouble.method in (None, method) and trouble.path in path
                if concerned and (trouble.times is None or trouble.met < trouble.times):
                    trouble.met += 1
                    return trouble
        return None

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the store."""
        return http.client.HTTPConnection(self._upstream, timeout=60)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Callers that are killed break off: nothing to say."""


def _handler(proxy: StoreProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError):
                super().handle_one_request()

        def pass_on(self) -> None:
            trouble = proxy.met_by(self.command, self.path)
            kind = trouble.kind if trouble is not None else None
            if kind == "refuse":
                self.break_off()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if trouble is not None and kind in ("hold", "slow"):
                trouble.over.wait(None if kind == "hold" else SLOW_S)
            if kind in _PLAIN:
                self.say(*_PLAIN[kind])
                return
            self.forward(body, cut=kind == "cut")

        def forward(self, body: bytes, *, cut: bool) -> None:
            store = proxy.connect()
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_HOP}
            try:
                if cut and body:
                    self.send_half(store, headers, body)
                    return
                sized = {**headers, "Content-Length": str(len(body))} if body or self.command == "PUT" else headers
                store.request(self.command, self.path, body=body or None, headers=sized)
                answer = store.getresponse()
                self.answer(answer, answer.read(), cut=cut)
            finally:
                store.close()

        def send_half(self, store: http.client.HTTPConnection, headers: dict[str, str], body: bytes) -> None:
            store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                store.putheader(name, value)
            store.endheaders(body[: len(body) // 2])
            self.break_off()

        def answer(self, answer: http.client.HTTPResponse, content: bytes, *, cut: bool) -> None:
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _OF_THE_HOP:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.break_off()

        def say(self, status: int, code: str) -> None:
            content = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def break_off(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    return Handler
