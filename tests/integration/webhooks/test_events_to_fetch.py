"""The pull twin of webhooks: every event can be fetched, with the bytes that were sent."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from core.webhooks.messages import LONGEST_BODY_BYTES
from tests.builders.receiver import Receiver, Reply
from tests.builders.webhooks import HOOKS, Network, Scene

pytestmark = pytest.mark.integration

URL = "http://127.0.0.1:2001/"


@pytest.fixture
def scene(emptied: Engine) -> Scene:
    return Scene(emptied)


def test_a_workspace_without_endpoints_has_its_events_page_by_page_both_ways(scene: Scene) -> None:
    scene.happen([("run.failed", {"id": f"run_{n}"}) for n in range(5)])
    seen: list[str] = []
    path = "/v1/events?order=oldest_first&limit=2"
    while True:
        answer = scene.caller.get(path)
        seen += [event["data"]["id"] for event in answer.json()["data"]]
        if not answer.json()["has_more"]:
            break
        path = answer.headers["link"].partition(">")[0].removeprefix("<")
    assert seen == [f"run_{n}" for n in range(5)]
    newest = scene.caller.get("/v1/events").json()["data"]
    assert [event["data"]["id"] for event in newest] == seen[::-1]


def test_the_bytes_are_those_of_the_webhook(scene: Scene) -> None:
    with Receiver() as receiver:
        scene.register(receiver.url)
        scene.happens("deletion_request.completed", external_id="Grüße 1e-07")
        scene.send()
        body = receiver.received[0].body
    listed = scene.caller.get("/v1/events")
    assert body in listed.content
    assert listed.headers["content-type"] == "application/json"
    assert scene.caller.get(f"/v1/events/{json.loads(body)['id']}").content == body


def test_filters_by_type_and_time(scene: Scene) -> None:
    scene.happen([("run.failed", {}), ("run.started", {}), ("deletion_request.created", {})])
    with scene.engine.connect() as connection:
        times = connection.execute(text("select created_at from webhook_messages order by position")).scalars().all()

    def types(**params: str) -> list[str]:
        return [event["type"] for event in scene.caller.get("/v1/events", params=params).json()["data"]]

    assert types(type="run.*") == ["run.started", "run.failed"]
    assert types(type="run.failed") == ["run.failed"]
    assert types(type="*")[0] == "deletion_request.created"
    assert types(created_after=times[0].isoformat(), created_before=times[2].isoformat()) == ["run.started"]
    assert times == sorted(set(times))  # in the order in which they happened, though in one transaction


def test_tests_are_no_events_and_other_workspaces_have_none_of_ours(scene: Scene) -> None:
    endpoint = scene.register(URL)
    scene.caller.post(f"{HOOKS}/{endpoint['id']}/test", headers={"Prefer": "respond-async"})
    assert scene.caller.get("/v1/events").json()["data"] == []
    scene.happens()
    (event,) = scene.caller.get("/v1/events").json()["data"]
    rival = scene.anyone.customer("rival")
    assert rival.get("/v1/events").json()["data"] == []
    for path in (f"/v1/events/{event['id']}", f"/v1/events/{event['id']}/deliveries"):
        assert rival.get(path).json()["code"] == "event_not_found"


def test_what_became_of_an_event_at_every_endpoint(scene: Scene) -> None:
    good, bad = scene.register(URL), scene.register("http://127.0.0.1:2002/")
    scene.happens()
    scene.send(Network({"http://127.0.0.1:2002/": 500}))
    (event,) = scene.caller.get("/v1/events").json()["data"]
    path = f"/v1/events/{event['id']}/deliveries"
    first = scene.caller.get(f"{path}?limit=1").json()
    rest = scene.caller.get(f"{path}?limit=1&cursor={first['next_cursor']}").json()
    rows = {row["endpoint_id"]: row for row in first["data"] + rest["data"]}
    assert {key: row["status"] for key, row in rows.items()} == {good["id"]: "delivered", bad["id"]: "pending"}
    assert rows[bad["id"]]["attempts"][0]["status_code"] == 500


def test_figures_of_an_endpoint(scene: Scene) -> None:
    endpoint = scene.register(URL)
    path = f"{HOOKS}/{endpoint['id']}/stats"
    empty = scene.caller.get(path).json()
    assert (empty["attempts"], empty["success_rate"], empty["backlog"]) == (0, None, 0)
    for number in range(4):
        scene.happens(id=f"run_{number}")
        scene.send(Network({URL: 500 if number == 0 else 204}))
    stats = scene.caller.get(path).json()
    assert (stats["attempts"], stats["successes"], stats["success_rate"], stats["backlog"]) == (4, 3, 0.75, 1)
    assert stats["latency_ms_median"] == 1
    assert stats["oldest_pending_at"] is not None
    scene.after(timedelta(hours=2).total_seconds())
    assert scene.caller.get(f"{path}?hours=1").json()["attempts"] == 0


def test_no_message_is_longer_than_the_standard_likes(scene: Scene) -> None:
    ids = [f"del_{n:026}" for n in range(5000)]
    scene.happens("certificate.issued", deletion_request_ids=ids)
    scene.happens("run.failed", stop_reason="x" * 30_000)
    cut, bare = scene.caller.get("/v1/events?order=oldest_first").json()["data"]
    assert cut["data"]["deletion_request_ids"] == ids[:100]
    assert cut["data"]["truncated"] == {"deletion_request_ids": 5000}
    assert "stop_reason" not in bare["data"]
    assert bare["data"]["truncated"]["stop_reason"] is None
    assert {"id", "model", "status", "sequence"} <= bare["data"].keys()
    with scene.engine.connect() as connection:
        longest = connection.execute(text("select max(length(body)) from webhook_messages")).scalar_one()
    assert longest < LONGEST_BODY_BYTES


def test_up_to_ten_old_keys_sign_behind_the_new_one(scene: Scene) -> None:
    with Receiver(lambda _: Reply()) as receiver:
        endpoint = scene.register(receiver.url)
        for _ in range(12):
            scene.caller.post(f"{HOOKS}/{endpoint['id']}/rotate-secret", {})
        scene.happens()
        scene.send()
        assert len(receiver.received[0].headers["webhook-signature"].split(" ")) == 11
        scene.after(24 * 3600 + 1)  # the grace that is given unless one asks for another
        scene.happens()
        scene.send()
        assert len(receiver.received[1].headers["webhook-signature"].split(" ")) == 1
