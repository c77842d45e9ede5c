"""A webhook receiver as a customer would write one: raw body, signature first, answer at once."""

import base64
import hashlib
import hmac
import importlib
import importlib.util
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from cli.output import Failed

_TOLERANCE_S: Final = 300


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came in: lower-case header names, and the body's bytes as they were sent."""

    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """Listens on a free port of this machine and keeps what it is sent. Use as a context manager."""

    def __init__(self) -> None:
        """Nothing listens before the context is entered."""
        self._deliveries: list[Delivery] = []
        self._arrival = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, event: str, *, limit_s: float) -> Delivery:
        """The first delivery of that event type. Raises ``Failed`` when none comes within ``limit_s``."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: self._first(event), timeout=limit_s):
                raise Failed(f"no webhook {event} has come in {limit_s:.0f} s")
            found = self._first(event)
            assert found is not None  # noqa: S101  # just waited for
            return found

    def _first(self, event: str) -> Delivery | None:
        return next((item for item in self._deliveries if _type_of(item.body) == event), None)

    def _keep(self, delivery: Delivery) -> None:
        with self._arrival:
            self._deliveries.append(delivery)
            self._arrival.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                keep(Delivery({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """The demo has its own words."""

        return Handler


def verify(delivery: Delivery, secret: str) -> tuple[dict[str, Any], str]:
    """The payload, and who checked its signature: the ``standardwebhooks`` package if it is there, else we ourselves.

    Raises ``Failed`` for a signature or time that a receiver must not accept.
    """
    if importlib.util.find_spec("standardwebhooks") is None:
        return verify_by_the_rules(delivery, secret, now=time.time()), "the rules of Standard Webhooks"
    package = importlib.import_module("standardwebhooks")
    try:
        payload = package.Webhook(secret).verify(delivery.body.decode(), dict(delivery.headers))
    except Exception as error:
        raise Failed(f"the webhook's signature does not verify: {error}") from None
    return payload, "the independent package standardwebhooks"


def verify_by_the_rules(delivery: Delivery, secret: str, *, now: float) -> dict[str, Any]:
    """The payload of a delivery signed with ``secret`` (``whsec_…``) within five minutes of ``now``.

    HMAC-SHA-256 over id, time and raw body, under the decoded secret; any one ``v1`` signature will do.
    Raises ``Failed`` otherwise.
    """
    try:
        message_id = delivery.headers["webhook-id"]
        sent = delivery.headers["webhook-timestamp"]
        signatures = delivery.headers["webhook-signature"].split(" ")
        off = abs(now - int(sent))
    except (KeyError, ValueError):
        raise Failed("the webhook lacks an id, a time or a signature") from None
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{message_id}.{sent}.".encode() + delivery.body, hashlib.sha256)
    expected = "v1," + base64.b64encode(mac).decode()
    if not any(hmac.compare_digest(expected.encode(), signature.encode()) for signature in signatures):
        raise Failed("the webhook's signature does not verify: no signature matches")
    if off > _TOLERANCE_S:
        raise Failed("the webhook's signature does not verify: its time is more than five minutes off")
    return json.loads(delivery.body)


def _type_of(body: bytes) -> str | None:
    try:
        return json.loads(body).get("type")
    except (ValueError, AttributeError):
        return None
