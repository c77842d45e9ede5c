"""What holds for every request, whatever the route."""

import json
import logging
from typing import Annotated, Any

import pytest
import structlog
from fastapi import Body
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from api.deps import Tx
from core.platform.database import open_engine
from core.platform.errors import DependencyDown
from tests.builders.web import Web, web

pytestmark = pytest.mark.integration


@pytest.fixture
def site(database: Engine) -> Web:
    return web(database)


def _problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"].endswith(f"/problems/{code}")
    assert body["instance"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return body


def test_a_commit_that_fails_is_not_answered_with_success(site: Web) -> None:
    @site.app.post("/v1/commit-fails", status_code=202)
    def commit_fails(tx: Tx) -> dict[str, str]:
        tx.execute(text("create table kept (id int primary key deferrable initially deferred)"))
        tx.execute(text("insert into kept values (1), (1)"))  # found out at commit only
        return {"status": "accepted"}

    _problem(site.post("/v1/commit-fails"), 500, "internal_error")


def test_the_commit_is_made_before_the_answer_leaves(site: Web) -> None:
    order: list[str] = []

    @site.app.post("/v1/order")
    def in_order(tx: Tx) -> dict[str, str]:
        from sqlalchemy import event

        event.listen(tx, "after_commit", lambda _session: order.append("commit"))
        tx.execute(text("select 1"))
        return {}

    async def record(scope: Any, receive: Any, send: Any) -> None:
        async def watch(message: Any) -> None:
            order.append(message["type"])
            await send(message)

        await inner(scope, receive, watch)

    inner = site.app
    Web(record, site.engine).post("/v1/order")  # type: ignore[arg-type]
    assert order[:2] == ["commit", "http.response.start"]


def test_a_refused_call_leaves_nothing_in_the_database(site: Web) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("create table traces (id int)"))

    @site.app.post("/v1/refused")
    def refused(tx: Tx) -> None:
        tx.execute(text("insert into traces values (1)"))
        raise DependencyDown("The object store does not answer.")

    answer = site.post("/v1/refused")
    _problem(answer, 503, "dependency_down")
    assert answer.headers["retry-after"] == "5"
    with site.engine.connect() as connection:
        assert connection.execute(text("select count(*) from traces")).scalar_one() == 0


def test_more_requests_than_connections_all_get_through(database_url: str) -> None:
    import asyncio

    import httpx

    small = open_engine(database_url, pool_size=1)
    site = web(small, database={"pool_size": 1})

    @site.app.get("/v1/slow")
    def slow(tx: Tx) -> dict[str, int]:
        tx.execute(text("select pg_sleep(0.01)"))
        return {"ok": 1}

    async def many() -> list[int]:
        transport = httpx.ASGITransport(app=site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            answers = await asyncio.gather(*(client.get("/v1/slow") for _ in range(100)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(many()) == [200] * 100
    small.dispose()


def test_what_nobody_expected_is_told_as_a_request_id_only(site: Web) -> None:
    @site.app.get("/v1/bug")
    def bug() -> None:
        raise RuntimeError("postgresql://user:password@host")

    answer = site.get("/v1/bug", headers={"X-Request-Id": "abc-12345678"})
    body = _problem(answer, 500, "internal_error")
    assert body["instance"] == "abc-12345678"
    assert "password" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_unreachable_database_is_503_and_says_when_to_come_back() -> None:
    nowhere = open_engine("postgresql://nobody@127.0.0.1:1/none")
    answer = web(nowhere).get("/v1/whoami", headers={"Authorization": f"Bearer unl_live_{'0' * 26}_{'a' * 43}"})
    _problem(answer, 503, "dependency_down")
    assert int(answer.headers["retry-after"]) > 0


def test_a_lost_connection_is_503(site: Web) -> None:
    @site.app.get("/v1/lost")
    def lost(tx: Tx) -> None:
        raise OperationalError("select 1", {}, Exception("server closed the connection"))

    _problem(site.get("/v1/lost"), 503, "dependency_down")


@pytest.mark.parametrize(
    "given",
    [
        "short", "with space in it", "x" * 129, "semi;colon;in;it", "", "abcdefgh\r\nX-Injected: 1", "abcdefgh\n",
        "abcdefgh\0", "abcdefgh\x1b[2J", "abcdefgh\x7f", "abcdefgh\x85",
    ],
)  # fmt: skip
def test_a_request_id_that_is_not_well_formed_is_replaced(site: Web, given: str) -> None:
    answer = site.get("/healthz", headers={"X-Request-Id": given.encode("latin-1")})
    assert answer.headers["x-request-id"].startswith("req_")
    assert "x-injected" not in answer.headers


def test_unknown_paths_and_methods_are_problems_too(site: Web) -> None:
    _problem(site.get("/v1/nothing-here"), 404, "route_not_found")
    answer = site.delete("/v1/whoami")
    _problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


def test_a_body_over_the_limit_is_refused_while_it_is_read(database: Engine) -> None:
    site = web(database, api={"body_limit_bytes": 1000})
    taken = 0

    async def drip() -> Any:
        nonlocal taken
        for _ in range(1000):
            taken += 100
            yield b"x" * 100

    headers = {"Content-Type": "application/json"}
    _problem(site.call("POST", "/v1/api-keys", content=drip(), headers=headers), 413, "payload_too_large")
    assert taken <= 1200
    announced = site.call("POST", "/v1/api-keys", content=b"x" * 2000, headers=headers)
    _problem(announced, 413, "payload_too_large")
    odd = {**headers, "Content-Length": "\xb2".encode("latin-1")}  # a digit to Unicode, and no number
    _problem(site.call("POST", "/v1/api-keys", content=drip(), headers=odd), 413, "payload_too_large")


def test_only_json_is_taken(site: Web) -> None:
    for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded", "application/jsonp"):
        answer = site.call("POST", "/v1/api-keys", content=b"{}", headers={"Content-Type": kind})
        _problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "a\\u0000b"}',
        b'{"na\\u0000me": "b"}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": ' + b"[" * 100 + b"]" * 100 + b"}",
        b"[" * 100_000,
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"name": ' + b"9" * 5000 + b"}",
        b'{"name": ',
        "{}".encode("utf-16"),
        b"\xff\xfe",
    ],
)
def test_bodies_that_would_break_something_are_400(site: Web, body: bytes) -> None:
    echoed: list[Any] = []

    @site.app.put("/v1/echo")
    def echo(value: Annotated[dict[str, Any], Body()]) -> None:
        echoed.append(value)

    answer = site.call("PUT", "/v1/echo", content=body, headers={"Content-Type": "application/json"})
    _problem(answer, 400, "malformed_request")
    assert echoed == []


def test_nul_in_an_address_is_400(site: Web) -> None:
    _problem(site.get("/v1/policies/a%00b"), 400, "malformed_request")
    _problem(site.get("/v1/audit-events?actor=%00"), 400, "malformed_request")


def test_validation_points_at_the_field_and_never_repeats_the_value(site: Web) -> None:
    caller = site.customer()
    secret_value = "jane.doe@example.org"
    answer = caller.post("/v1/api-keys", {"name": ["x"], "scopes": secret_value, "a/b~c": 1})
    body = _problem(answer, 422, "invalid_request")
    assert {error["pointer"] for error in body["errors"]} == {"/name", "/scopes", "/…"}
    assert secret_value not in answer.text
    answer = caller.get("/v1/api-keys?limit=5000")
    assert answer.json()["errors"][0]["parameter"] == "limit"


def test_answers_carry_headers_that_keep_browsers_honest(database: Engine) -> None:
    plain = web(database)
    answer = plain.get("/v1/whoami")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in answer.headers
    secure = web(database, api={"public_url": "https://unlearn.example"})
    assert "max-age" in secure.get("/v1/whoami").headers["strict-transport-security"]


def test_one_line_a_request_without_ids_or_query_strings(site: Web) -> None:
    caller = site.customer()
    with structlog.testing.capture_logs() as lines:
        caller.get("/v1/policies/default?who=jane.doe@example.org")
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["route"] == "/v1/policies/{name}"
    assert line["status"] == 200
    assert line["key_id"].startswith("key_")
    assert "jane" not in json.dumps(line)


def test_no_route_is_logged_with_its_secret(site: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caller = site.customer()
    caller.get("/v1/whoami")
    assert "unl_live_" not in caplog.text


def test_requests_are_counted_by_route_template(site: Web) -> None:
    caller = site.customer()
    caller.get("/v1/policies/default")
    caller.get("/v1/policies/none")
    text_of = site.get("/metrics").text
    assert 'unlearn_http_requests_total{method="GET",route="/v1/policies/{name}",status="200"} 1.0' in text_of
    assert 'unlearn_http_requests_total{method="GET",route="/v1/policies/{name}",status="404"} 1.0' in text_of
    assert "unlearn_http_request_seconds_bucket" in text_of


def test_allow_names_the_methods_of_every_route_at_the_path(site: Web) -> None:
    for path, allowed in (
        ("/v1/api-keys", "GET, POST"),
        ("/v1/deletion-requests/del_x", "DELETE, GET"),
        ("/v1/webhook-endpoints/whe_x", "DELETE, GET, PATCH"),
    ):
        answer = site.put(path, {})
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), path
