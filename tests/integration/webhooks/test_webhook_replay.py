"""Events of a span of time, sent once more."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from core.webhooks import replaying
from tests.builders.webhooks import HOOKS, Network, Scene
from worker.loops import replayer

pytestmark = pytest.mark.integration

URL, OTHER = "http://127.0.0.1:2001/", "http://127.0.0.1:2002/"


@pytest.fixture
def scene(emptied: Engine) -> Scene:
    return Scene(emptied)


def _start(scene: Scene, endpoint: dict[str, Any], **fields: Any) -> httpx.Response:
    scene.after(60)  # past what has happened so far, which goes by the database's clock
    since = (scene.clock.now - timedelta(hours=1)).isoformat()
    return scene.caller.post(f"{HOOKS}/{endpoint['id']}/replay", {"since": since, **fields})


def _ids(network: Network) -> list[str]:
    return [message["data"]["id"] for message in network.told(URL)]


def test_events_from_before_the_endpoint_existed_and_while_it_was_disabled_are_sent(scene: Scene) -> None:
    network = Network()
    scene.happens(id="run_before")
    endpoint = scene.register(URL, "run.*")
    scene.happens(id="run_delivered")
    scene.send(network)
    scene.caller.patch(f"{HOOKS}/{endpoint['id']}", {"enabled": False})
    scene.happen([("run.failed", {"id": "run_disabled"}), ("ping", {})])
    assert _start(scene, endpoint).json()["code"] == "webhook_endpoint_disabled"
    scene.caller.patch(f"{HOOKS}/{endpoint['id']}", {"enabled": True})
    started = _start(scene, endpoint)
    assert started.status_code == 202
    assert (started.json()["status"], started.json()["total"]) == ("running", 4)
    scene.replay()
    scene.send(network)
    assert _ids(network) == ["run_delivered", "run_before", "run_disabled"]
    ended = scene.caller.get(started.headers["location"]).json()
    assert (ended["status"], ended["examined"], ended["queued"]) == ("completed", 4, 2)
    assert ended["finished_at"] is not None


def test_delivered_ones_are_sent_again_only_on_request_with_the_same_id_and_bytes(scene: Scene) -> None:
    network = Network()
    endpoint = scene.register(URL)
    scene.happen([("run.failed", {"id": f"run_{n}"}) for n in range(3)])
    scene.send(network)
    _start(scene, endpoint)
    scene.replay()
    assert scene.send(network) == 0
    _start(scene, endpoint, only_failed=False)
    scene.replay()
    assert scene.send(network) == 3
    first, again = (sorted(network.told(URL)[part], key=str) for part in (slice(3), slice(3, None)))
    assert first == again


def test_a_replayed_message_has_the_whole_schedule_again(scene: Scene) -> None:
    endpoint = scene.register(URL)
    scene.happens()
    scene.sql("update webhook_deliveries set status = 'exhausted', attempts = 10, next_attempt_at = null")
    _start(scene, endpoint)
    scene.replay()
    network = Network({URL: 500})
    scene.send(network)
    assert [row["status"] for row in scene.deliveries(endpoint["id"])] == ["pending"]


def test_one_replay_of_an_endpoint_runs_at_a_time(scene: Scene) -> None:
    endpoint, other = scene.register(URL), scene.register(OTHER)
    first = _start(scene, endpoint)
    refused = _start(scene, endpoint)
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_replay_running")
    assert _start(scene, other).status_code == 202
    scene.replay()
    assert _start(scene, endpoint).status_code == 202
    listed = scene.caller.get(f"{HOOKS}/{endpoint['id']}/replays").json()["data"]
    assert [replay["id"] for replay in listed][1:] == [first.json()["id"]]


def test_the_same_idempotency_key_starts_one(scene: Scene) -> None:
    endpoint = scene.register(URL)
    scene.after(60)
    body, headers = {"since": (scene.clock.now - timedelta(hours=1)).isoformat()}, {"Idempotency-Key": "k"}
    path = f"{HOOKS}/{endpoint['id']}/replay"
    first, again = (scene.caller.post(path, body, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    assert first.status_code == again.status_code == 202


def test_a_replay_goes_on_where_it_was_and_never_floods_the_queue(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "PORTION", 2)
    monkeypatch.setattr(replaying, "LONGEST_QUEUE", 3)
    scene.happen([("run.failed", {"id": "run_1", "sequence": n}) for n in range(7)])
    endpoint = scene.register(URL)
    replay = _start(scene, endpoint).json()
    network = Network()
    sent: list[int] = []
    for _ in range(3):
        while replayer.turn(scene.engine, scene.clock):
            pass
        sent.append(scene.send(network))
    assert sent == [3, 3, 1]
    assert [message["data"]["sequence"] for message in network.told(URL)] == list(range(7))
    assert scene.caller.get(f"{HOOKS}/{endpoint['id']}/replays/{replay['id']}").json()["queued"] == 7


def test_disabling_stops_it(scene: Scene) -> None:
    endpoint = scene.register(URL)
    scene.happens()
    replay = _start(scene, endpoint).json()
    scene.caller.patch(f"{HOOKS}/{endpoint['id']}", {"enabled": False})
    scene.replay()
    ended = scene.caller.get(f"{HOOKS}/{endpoint['id']}/replays/{replay['id']}").json()
    assert (ended["status"], ended["examined"]) == ("stopped", 0)


def test_spans_that_hold_nothing_or_are_not_kept_are_refused(scene: Scene) -> None:
    endpoint = scene.register(URL)
    now: datetime = scene.clock.now
    for since, until, code in (
        (now + timedelta(hours=2), None, "empty_span"),
        (now - timedelta(hours=1), now - timedelta(hours=2), "empty_span"),
        (now - timedelta(days=31), None, "too_old"),
    ):
        answer = _start(scene, endpoint, since=since.isoformat(), until=until and until.isoformat())
        assert answer.status_code == 422
        assert [error["code"] for error in answer.json()["errors"]] == [code]
