"""Whatever is sent to any operation, the answer is one that the document lists or a problem, and never a 5xx."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from tests.builders.web import Web, web

pytestmark = [pytest.mark.contract, pytest.mark.integration]

_PATH_VALUES = ["none", "1", "-1", "99999999999999999999", "a%2Fb", "%C3%BC", "x" * 300, "%27%3B--", "latest"]
_BODIES: list[Any] = [
    {},
    [],
    None,
    "text",
    {"name": "x" * 10_000},
    {"name": None, "model": 1, "url": {}, "events": "x", "scopes": {}, "files": [{}], "parameters": []},
    {"model": "none", "record_ids": ["a"], "dataset": "none", "metadata": {"a": {"b": []}}},
    {"name": "n", "task": "image-classification", "dataset": "none", "source_uri": "s3://x/y", "format": "parquet"},
    {"version": 2**70, "alias": "x", "force": "maybe", "comment": "\U0001f600"},
]
_QUERIES = ["", "?limit=0", "?cursor=%ff", "?created_after=never", "?status=%27&model=%25&after=-1", "?limit=1&limit=2"]


def _calls(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, item in document["paths"].items():
        for method in item:
            yield method.upper(), path


def _filled(path: str, value: str) -> str:
    return re.sub(r"\{[^}]+\}", lambda _: value, path)


@pytest.fixture
def caller(database: Engine) -> Web:
    return web(database).customer()


def _check(answer: httpx.Response, what: str, document: dict[str, Any], method: str, path: str) -> None:
    assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:300]}"
    assert "x-request-id" in answer.headers
    if answer.status_code >= 400 and path.startswith("/opendsr/"):
        assert answer.headers["content-type"] == "application/json", what
        assert answer.json()["error"]["code"] == answer.status_code, what
    elif answer.status_code >= 400 and path == "/oauth/token":
        assert answer.json()["error"], what
    elif answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", what
        assert answer.json()["code"], what
        listed = document["paths"][path][method.lower()]["responses"]
        assert str(answer.status_code) in listed or answer.status_code in (400, 404, 405), f"{what}: not listed"


def test_strange_paths_and_queries(caller: Web) -> None:
    document = caller.app.openapi()
    for method, path in _calls(document):
        if path == "/readyz" or (method == "GET" and path.endswith("/events")):
            continue
        for value, query in itertools.zip_longest(_PATH_VALUES, _QUERIES, fillvalue=""):
            target = _filled(path, value or "none") + query
            kwargs = {} if method in ("GET", "DELETE") else {"json": {}}
            answer = caller.call(method, target, **kwargs)
            _check(answer, f"{method} {target}", document, method, path)


def test_strange_bodies(caller: Web) -> None:
    document = caller.app.openapi()
    for method, path in _calls(document):
        if method in ("GET", "DELETE") or path.startswith("/v1/storage"):
            continue
        for body in _BODIES:
            answer = caller.call(method, _filled(path, "none"), json=body)
            _check(answer, f"{method} {path} {body!r}"[:200], document, method, path)


def test_without_a_credential_everything_is_401_or_open(caller: Web) -> None:
    stranger = Web(caller.app, caller.engine)
    document = caller.app.openapi()
    for method, path in _calls(document):
        if document["paths"][path][method.lower()].get("security"):
            answer = stranger.call(method, _filled(path, "none"), **({} if method == "GET" else {"json": {}}))
            assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
            assert answer.headers["www-authenticate"]


def test_a_key_without_scopes_for_it_is_403_everywhere(caller: Web) -> None:
    weak = caller.customer("weak", scopes=["audit:read"])
    document = caller.app.openapi()
    for method, path in _calls(document):
        if not document["paths"][path][method.lower()].get("security") or path in (
            "/v1/whoami",
            "/v1/audit-events",
            "/v1/audit-events/export",
        ):
            continue
        answer = weak.call(method, _filled(path, "none"), **({} if method == "GET" else {"json": {}}))
        assert answer.status_code == 403, f"{method} {path}: {answer.status_code}"
        if path.startswith("/opendsr/"):
            assert answer.json()["error"]["errors"][0]["reason"] == "MissingScope"
        else:
            assert answer.json()["code"] == "missing_scope"
