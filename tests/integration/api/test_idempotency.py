"""A creating call that is repeated happens once."""

import threading
from datetime import timedelta

import pytest
from fastapi import Response
from sqlalchemy import Engine, text
from starlette.concurrency import run_in_threadpool

from api.deps import Tx
from api.idempotency import Once
from api.schemas.access import WhoamiOut
from core.access.idempotency import expire
from core.platform.database import transaction
from core.platform.errors import AlreadyExists, DependencyDown, NotFound
from tests.builders.web import Clock, Web, web

pytestmark = pytest.mark.integration

BODY = {"name": "platform", "scopes": ["runs:read"]}
KEYS = "/v1/api-keys"


@pytest.fixture
def site(database: Engine) -> Web:
    return web(database)


def _keys(caller: Web) -> int:
    return len(caller.get(KEYS).json()["data"])


def test_the_same_key_and_body_get_the_first_answer_again(site: Web) -> None:
    caller = site.customer()
    first = caller.post(KEYS, BODY, headers={"Idempotency-Key": '"k-1"'})
    again = caller.post(KEYS, BODY, headers={"Idempotency-Key": "k-1"})  # unquoted means the same
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert _keys(caller) == 2


def test_location_is_replayed_too(site: Web) -> None:
    caller = site.customer()
    body, headers = {"url": "https://a.example"}, {"Idempotency-Key": "hook"}
    first, again = (caller.post("/v1/webhook-endpoints", body, headers=headers) for _ in range(2))
    assert first.headers["location"] == again.headers["location"] == f"/v1/webhook-endpoints/{first.json()['id']}"


def test_another_body_under_the_same_key_is_422(site: Web) -> None:
    caller = site.customer()
    caller.post(KEYS, BODY, headers={"Idempotency-Key": "k"})
    answer = caller.post(KEYS, {**BODY, "name": "other"}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert _keys(caller) == 2


def test_a_key_counts_for_one_workspace_and_path(site: Web) -> None:
    ours, theirs = site.customer("acme"), site.customer("rival")
    headers = {"Idempotency-Key": "k"}
    assert ours.post(KEYS, BODY, headers=headers).json()["id"] != theirs.post(KEYS, BODY, headers=headers).json()["id"]
    other_path = ours.post("/v1/webhook-endpoints", {"url": "https://a.example"}, headers=headers)
    assert other_path.status_code == 201
    assert "idempotent-replayed" not in other_path.headers


@pytest.mark.parametrize("key", ["", '""', " ", "x" * 256, '"' + "x" * 256 + '"', "a\tb", 'half"quoted', '"open', "ü"])
def test_a_key_that_is_not_well_formed_is_400(site: Web, key: str) -> None:
    answer = site.customer().post(KEYS, BODY, headers={"Idempotency-Key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key")


def test_255_characters_and_escapes_are_well_formed(site: Web) -> None:
    caller = site.customer()
    assert caller.post(KEYS, BODY, headers={"Idempotency-Key": "x" * 255}).status_code == 201
    assert caller.post(KEYS, BODY, headers={"Idempotency-Key": '"a\\"b\\\\c"'}).status_code == 201


def test_two_at_once_make_one_and_the_other_is_told_to_come_back(site: Web) -> None:
    inside, go_on = threading.Event(), threading.Event()
    answers: list[int] = []

    @site.app.post("/v1/slowly")
    def slowly(tx: Tx, once: Once) -> Response:
        def make() -> WhoamiOut:
            tx.execute(text("create table if not exists made (id int)"))
            tx.execute(text("insert into made values (1)"))
            inside.set()
            assert go_on.wait(20)
            return WhoamiOut(workspace="acme", key_id="k", scopes=[], mode="live")

        return once(201, make)

    caller = site.customer()
    headers = {"Idempotency-Key": "k"}
    first = threading.Thread(target=lambda: answers.append(caller.post("/v1/slowly", {}, headers=headers).status_code))
    first.start()
    assert inside.wait(20)
    early = caller.post("/v1/slowly", {}, headers=headers)
    assert (early.status_code, early.json()["code"]) == (409, "idempotency_in_progress")
    assert int(early.headers["retry-after"]) >= 1
    go_on.set()
    first.join()
    late = caller.post("/v1/slowly", {}, headers=headers)
    assert answers == [201]
    assert (late.status_code, late.headers["idempotent-replayed"]) == (201, "true")
    with site.engine.connect() as connection:
        assert connection.execute(text("select count(*) from made")).scalar_one() == 1


def test_a_creating_call_is_committed_before_its_answer_or_fails(site: Web) -> None:
    states: list[bool] = []

    @site.app.post("/v1/never-committed")
    async def never_committed(tx: Tx, once: Once) -> Response:
        def make() -> WhoamiOut:
            tx.execute(text("create table kept (id int primary key deferrable initially deferred)"))
            tx.execute(text("insert into kept values (1), (1)"))  # found out at commit only
            return WhoamiOut(workspace="acme", key_id="k", scopes=[], mode="live")

        return await run_in_threadpool(once, 202, make)

    @site.app.post("/v1/committed")
    def committed(tx: Tx, once: Once) -> Response:
        reply = once(201, lambda: WhoamiOut(workspace="acme", key_id="k", scopes=[], mode="live"))
        states.append(tx.in_transaction())
        return reply

    caller = site.customer()
    for _ in range(2):  # nor is there anything to be given again
        answer = caller.post("/v1/never-committed", {}, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert caller.post("/v1/committed", {}).status_code == 201
    assert states == [False]


def test_many_at_once_make_one(site: Web) -> None:
    caller = site.customer()
    statuses: list[int] = []
    barrier = threading.Barrier(6)

    def call() -> None:
        barrier.wait()
        statuses.append(caller.post(KEYS, BODY, headers={"Idempotency-Key": "k"}).status_code)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert _keys(caller) == 2


@pytest.mark.parametrize(
    ("error", "stored"),
    [
        (NotFound("No such model."), True),
        (AlreadyExists("The name is taken."), True),
        (DependencyDown("The object store does not answer."), False),
        (RuntimeError("a bug"), False),
    ],
)
def test_final_refusals_are_kept_and_passing_troubles_are_not(site: Web, error: Exception, stored: bool) -> None:
    calls: list[int] = []
    with site.engine.begin() as connection:
        connection.execute(text("create table traces (id int)"))

    @site.app.post("/v1/refusing")
    def refusing(tx: Tx, once: Once) -> Response:
        def make() -> WhoamiOut:
            calls.append(1)
            tx.execute(text("insert into traces values (1)"))
            raise error

        return once(201, make)

    caller = site.customer()
    headers = {"Idempotency-Key": "k"}
    first, again = caller.post("/v1/refusing", {}, headers=headers), caller.post("/v1/refusing", {}, headers=headers)
    assert first.status_code == again.status_code
    assert ("idempotent-replayed" in again.headers) is stored
    assert len(calls) == (1 if stored else 2)
    if stored:
        assert again.content == first.content
        assert again.headers["content-type"] == "application/problem+json"
    with site.engine.connect() as connection:
        assert connection.execute(text("select count(*) from traces")).scalar_one() == 0


def test_answers_are_kept_a_day_and_sealed(database: Engine) -> None:
    clock = Clock()
    caller = web(database, clock).customer()
    headers = {"Idempotency-Key": "k"}
    first = caller.post(KEYS, BODY, headers=headers)
    with database.connect() as connection:
        (kept,) = connection.execute(text("select body from idempotency_records")).scalars()
    assert first.json()["secret"].encode() not in bytes(kept)
    clock.now += timedelta(hours=23, minutes=59)
    assert caller.post(KEYS, BODY, headers=headers).content == first.content
    clock.now += timedelta(minutes=2)
    after = caller.post(KEYS, BODY, headers=headers)
    assert after.status_code == 201
    assert after.json()["id"] != first.json()["id"]
    with transaction(database) as tx:
        assert expire(tx, at=clock.now) == 0
        assert expire(tx, at=clock.now + timedelta(hours=25)) == 1


def test_without_a_key_every_call_makes_one(site: Web) -> None:
    caller = site.customer()
    caller.post(KEYS, BODY)
    caller.post(KEYS, BODY)
    assert _keys(caller) == 3


def test_a_service_may_ask_for_a_key_on_every_creating_call(database: Engine) -> None:
    caller = web(database, api={"require_idempotency_key": True}).customer()
    refused = caller.post(KEYS, BODY)
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency_key_required")
    assert caller.post(KEYS, BODY, headers={"Idempotency-Key": "k"}).status_code == 201
    assert caller.get(KEYS).status_code == 200
