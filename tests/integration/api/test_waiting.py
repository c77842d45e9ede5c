"""Waiting for an end, and not sending again what the caller has."""

import threading

import pytest
from fastapi import Response
from sqlalchemy import Engine, text

from api.deps import Tx
from api.waiting import IfNoneMatch, Wait, not_modified, unchanged
from core.platform.database import open_engine
from tests.builders.web import Web, web

pytestmark = pytest.mark.integration


def _waiting_route(site: Web) -> None:
    with site.engine.begin() as connection:
        connection.execute(text("create table jobs (id int primary key, done bool)"))

    @site.app.post("/v1/jobs/{number}")
    async def start(number: int, tx: Tx, wait: Wait, reply: Response) -> dict[str, bool]:
        tx.execute(text("insert into jobs values (:id, false)"), {"id": number})
        wait.applied(reply.headers)
        done = await wait.until(
            tx,
            lambda again: bool(
                again.execute(text("select done from jobs where id = :id"), {"id": number}).scalar_one()
            ),
            done=bool,
        )
        return {"done": done}


def test_a_call_that_waits_answers_when_the_end_comes(database: Engine) -> None:
    site = web(database)
    _waiting_route(site)

    def finish() -> None:
        while True:  # the row shows up because the waiting call has committed it
            with database.begin() as connection:
                if connection.execute(text("update jobs set done = true where id = 1")).rowcount:
                    return

    worker = threading.Thread(target=finish)
    worker.start()
    answer = site.post("/v1/jobs/1", headers={"Prefer": 'respond-async, wait="30"'})
    worker.join()
    assert answer.json() == {"done": True}
    assert answer.headers["preference-applied"] == "wait=30"


def test_time_runs_out_or_nobody_asked_to_wait(database: Engine) -> None:
    site = web(database)
    _waiting_route(site)
    assert site.post("/v1/jobs/1", headers={"Prefer": "wait=1"}).json() == {"done": False}
    for number, prefer in enumerate(["respond-async", "wait=x", "wait=", "wait=-1", "waiting=5", "nowait=5"], start=2):
        answer = site.post(f"/v1/jobs/{number}", headers={"Prefer": prefer})
        assert answer.json() == {"done": False}
        assert "preference-applied" not in answer.headers, prefer


def test_a_look_without_a_wait_is_committed_too(database: Engine) -> None:
    site = web(database)
    states: list[bool] = []

    @site.app.get("/v1/looks")
    async def looks(tx: Tx, wait: Wait, number: int) -> int:
        statement = text("insert into looks values (1), (:number) returning id")
        seen = await wait.look(tx, lambda other: len(other.execute(statement, {"number": number}).all()), bool)
        states.append(tx.in_transaction())
        return seen

    with database.begin() as connection:
        connection.execute(text("create table looks (id int primary key deferrable initially deferred)"))
    assert site.get("/v1/looks?number=1").status_code == 500  # the same id twice is found out at commit only
    assert site.get("/v1/looks?number=2").json() == 2
    assert states == [False]


def test_the_wait_is_at_most_thirty_seconds(database: Engine) -> None:
    site = web(database)

    @site.app.get("/v1/seconds")
    async def seconds(wait: Wait) -> int:
        return wait.seconds

    assert site.get("/v1/seconds", headers={"Prefer": "wait=86400"}).json() == 30
    assert site.get("/v1/seconds", headers={"Prefer": "handling=lenient; wait=7"}).json() == 7


def test_calls_that_wait_hold_no_connection(database_url: str) -> None:
    import asyncio

    import httpx

    small = open_engine(database_url, pool_size=1)
    site = web(small, database={"pool_size": 1})  # two connections at most
    _waiting_route(site)

    async def all_at_once() -> list[int]:
        transport = httpx.ASGITransport(app=site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            waiting = [
                asyncio.create_task(client.post(f"/v1/jobs/{n}", headers={"Prefer": "wait=2"})) for n in range(20)
            ]
            for _ in range(20):
                assert (await client.get("/readyz")).status_code == 503  # the broker is not configured
            return [(await one).status_code for one in waiting]

    assert asyncio.run(all_at_once()) == [200] * 20
    small.dispose()


def test_a_current_copy_is_not_sent_again(database: Engine) -> None:
    site = web(database)

    @site.app.get("/v1/thing", response_model=None)
    def thing(known: IfNoneMatch = None) -> Response | dict[str, int]:
        return not_modified({"ETag": '"7"'}) if unchanged(known, '"7"') else {"n": 7}

    assert site.get("/v1/thing").json() == {"n": 7}
    for header in ('"7"', 'W/"7"', '"1", "7"', "*"):
        answer = site.get("/v1/thing", headers={"If-None-Match": header})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"7"')
    for header in ('"8"', "7", "", '"77"'):
        assert site.get("/v1/thing", headers={"If-None-Match": header}).status_code == 200
