"""Line breaks, control characters, bidirectional overrides: refused by name or escaped, never in headers or logs."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import structlog
from sqlalchemy import Engine

from core.access.tables import Workspace
from core.platform import logging as ours
from core.platform.database import transaction
from core.platform.ids import new_id
from core.platform.settings import Settings
from tests.builders.estate import Estate
from tests.builders.web import Web, web

pytestmark = pytest.mark.integration

STRANGE = (
    "odd\r\nX-Injected: 1",
    'odd\n{"event": "forged"}',
    "odd\x1b[2J",
    "odd\x7f",
    "odd\x85",
    "odd\u2028",
    "odd\u202egnp",
    "odd\u2066gnp\u2069",
)
HELD = {"scope": "dataset", "name": "held"}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@pytest.fixture
def caller(emptied: Engine) -> Web:
    """Of a workspace with the data set and the model ``digits``."""
    with transaction(emptied) as tx:
        workspace = Workspace(id=new_id("ws"), name="acme")
        tx.add(workspace)
        tx.flush()
        owned = Estate(workspace.id)
        owned.add_dataset(tx, "digits")
        owned.add_dataset(tx, "held")
        owned.add_model(tx, "digits", "digits")
    return web(emptied).customer()


@pytest.fixture
def lines() -> Iterator[Any]:
    """What has been logged so far, line by line, as a collector of logs reads it."""
    root = logging.getLogger()
    handlers, level, written = root.handlers[:], root.level, io.StringIO()
    ours.configure(Settings.model_validate({"log_json": True}))
    structlog.configure(cache_logger_on_first_use=False)  # or loggers of modules would keep this for other tests
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _is_clean(answer: httpx.Response) -> None:
    """Headers hold printable ASCII only and nothing of what was sent, and the body no raw control character."""
    assert all(value.isascii() and value.isprintable() and "odd" not in value for value in answer.headers.values())
    assert "x-injected" not in answer.headers
    assert not _CONTROL.search(answer.content.replace(b"\x7f", b""))  # JSON leaves that one as it is


def _refused(answer: httpx.Response, pointer: str) -> None:
    _is_clean(answer)
    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_names_and_places_are_refused_by_their_field(caller: Web) -> None:
    for text in STRANGE:
        _names_are_refused(caller, text)


def _names_are_refused(caller: Web, text: str) -> None:
    named: dict[str, Any] = {"name": text, "task": "image-classification"}
    digest = "0" * 64
    hook = "https://hooks.acme.example/"
    for path, body, pointer in (
        ("/v1/models", {**named, "dataset": "digits"}, "/name"),
        ("/v1/datasets", {**named, "format": "parquet", "columns": {"record_id": "id"}, "upload_id": "up_1"}, "/name"),
        (
            "/v1/datasets",
            {**named, "name": "d", "format": "parquet", "columns": {"record_id": "id", "image": "i", "label": "l"},
             "source_uri": f"mem://sources/{text}/"},
            "/source_uri",
        ),
        ("/v1/uploads", {"files": [{"path": text, "size": 1, "sha256": digest}]}, "/files/0/path"),
        ("/v1/webhook-endpoints", {"url": hook + text}, "/url"),
        ("/v1/webhook-endpoints", {"url": hook, "headers": {"X-Own": text}}, "/headers/X-Own"),
        ("/v1/webhook-endpoints", {"url": hook, "headers": {text: "x"}}, f"/headers/{text}"),
        ("/v1/webhook-endpoints", {"url": hook, "events": [text]}, "/events/0"),
        ("/v1/webhook-endpoints", {"url": hook, "secret": text}, "/secret"),
        ("/v1/deletion-requests", {"record_ids": ["r-0"], "model": "digits", "regulation": text}, "/regulation"),
    ):  # fmt: skip
        _refused(caller.post(path, body), pointer)
    policy = caller.put(f"/v1/policies/{quote(text)}", {})
    alias = caller.put(f"/v1/models/digits/aliases/{quote(text)}", {"version": 1})
    for answer in (policy, alias):
        _is_clean(answer)
        assert answer.status_code == 422


def test_words_that_are_kept_come_back_as_they_were_and_only_in_the_body(caller: Web, lines: Any) -> None:
    calls = 0
    for number, text in enumerate(STRANGE):
        for answer, words in _kept(caller, f"m{number}", text):
            calls += 1
            _is_clean(answer)
            assert answer.status_code < 300, answer.text
            assert words.items() <= answer.json().items(), answer.text
    logged = lines()
    assert [line["event"] for line in logged].count("request") == calls
    assert "odd" not in json.dumps(logged)


def _kept(caller: Web, name: str, text: str) -> list[tuple[httpx.Response, dict[str, Any]]]:
    """Answers to calls that keep the text, or show what was kept, and what must stand in them."""
    kept = {"external_id": text, "reason": text, "metadata": {text: text}}
    asked = {"record_ids": ["r-0"], "model": "digits", "hold_seconds": 3600, "regulation": "gdpr", **kept}
    hook = {"url": "https://hooks.acme.example/", "description": text, "metadata": {text: text}}
    model = {"name": name, "task": "image-classification", "dataset": "digits", "description": text}
    once = {"headers": {"Idempotency-Key": name}}
    made = caller.post("/v1/deletion-requests", asked, **once)
    request = f"/v1/deletion-requests/{made.json()['id']}"
    return [
        (made, kept),
        (caller.post("/v1/deletion-requests", asked, **once), kept),
        (caller.get(f"/v1/deletion-requests?external_id={quote(text)}"), {}),
        (caller.post("/v1/webhook-endpoints", hook), {"description": text, "metadata": {text: text}}),
        (caller.post("/v1/models", model), {"description": text}),
        (caller.post("/v1/api-keys", {"name": text, "scopes": ["runs:read"]}), {"name": text}),
        (caller.post("/v1/legal-holds", {**HELD, "reason": text}), {"reason": text.strip()}),
        (caller.post(f"{request}/extend", {"reason": text}), {}),
        (caller.get(f"{request}/events"), {}),
        (caller.get("/v1/audit-events"), {}),
    ]


def test_an_exported_log_has_a_line_for_each_event_whatever_words_are_in_it(caller: Web) -> None:
    for text in STRANGE:
        caller.post("/v1/legal-holds", {**HELD, "reason": text})
    exported = caller.get("/v1/audit-events/export").text.removesuffix("\n").split("\n")
    *events, _checkpoint = map(json.loads, exported)
    reasons = [event["details"]["reason"] for event in events if "reason" in event["details"]]
    assert reasons == [text.strip() for text in STRANGE]
    assert len(events) == caller.get("/v1/audit-events").json()["data"][0]["sequence"]


def test_no_header_comes_back_in_an_answer_or_a_log(caller: Web, lines: Any) -> None:
    hold = {**HELD, "reason": "x"}
    for header in ("Idempotency-Key", "Authorization", "X-Api-Key", "Prefer", "If-None-Match", "Traceparent"):
        for text in (text for text in STRANGE if ord(max(text)) < 256):
            answer = caller.post("/v1/legal-holds", hold, headers={header: text.encode("latin-1")})
            _is_clean(answer)
            assert answer.status_code in (201, 400, 401), answer.text
    assert "odd" not in json.dumps(lines())
