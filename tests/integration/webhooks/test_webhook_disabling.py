"""When an endpoint is disabled by itself, and how it comes back."""

import pytest
from sqlalchemy import Engine

from core.webhooks.sending import Answer
from tests.builders.webhooks import HOOKS, Network, Scene

pytestmark = pytest.mark.integration

BAD, GOOD = "http://127.0.0.1:2001/", "http://127.0.0.1:2002/"
DAY = 86_400
OURS = Answer(None, "unreachable", 1, ours=True)


@pytest.fixture
def scene(emptied: Engine) -> Scene:
    return Scene(emptied)


def _a_day_passes(scene: Scene, network: Network, days: float = 1) -> None:
    scene.happens()
    scene.send(network)
    scene.after(days * DAY)


def test_five_days_of_nothing_but_failures_disable_and_tell_the_others(scene: Scene) -> None:
    bad, network = scene.register(BAD), Network({BAD: 500})
    scene.register(GOOD)
    for _ in range(5):
        _a_day_passes(scene, network)
        assert scene.endpoint(bad["id"])["enabled"] is True
    scene.happens()
    scene.send(network)
    endpoint = scene.endpoint(bad["id"])
    assert (endpoint["enabled"], endpoint["disabled_reason"]) == (False, "failing")
    assert "pending" not in {row["status"] for row in scene.deliveries(bad["id"])}
    scene.relay()
    scene.send(network)
    told = [message for message in network.told(GOOD) if message["type"] == "webhook_endpoint.disabled"]
    assert [message["data"] for message in told] == [{"id": bad["id"], "reason": "failing", "sequence": 2}]
    assert BAD not in [url for url, message in network.sent if message["type"] == "webhook_endpoint.disabled"]


def test_one_success_starts_the_count_anew(scene: Scene) -> None:
    bad, network = scene.register(BAD), Network({BAD: 500})
    for _ in range(4):
        _a_day_passes(scene, network)
    network.answers = {}
    _a_day_passes(scene, network)
    assert scene.endpoint(bad["id"])["failing_since"] is None
    network.answers = {BAD: 500}
    for _ in range(5):
        _a_day_passes(scene, network)
    assert scene.endpoint(bad["id"])["enabled"] is True


def test_failures_within_a_day_after_a_long_silence_do_not_disable(scene: Scene) -> None:
    bad, network = scene.register(BAD), Network()
    _a_day_passes(scene, network, days=10)
    network.answers = {BAD: 500}
    _a_day_passes(scene, network, days=0.9)
    scene.happens()
    scene.send(network)
    assert scene.endpoint(bad["id"])["enabled"] is True


def test_a_failure_of_ours_starts_the_count_anew(scene: Scene) -> None:
    bad, network = scene.register(BAD), Network({BAD: 500})
    for day in range(6):
        network.answers = {BAD: OURS if day == 5 else 500}
        _a_day_passes(scene, network)
    endpoint = scene.endpoint(bad["id"])
    assert (endpoint["enabled"], endpoint["failing_since"]) == (True, None)


def test_enabling_is_one_call_and_the_count_begins_with_it(scene: Scene) -> None:
    bad, network = scene.register(BAD), Network({BAD: 410})
    scene.happens()
    scene.send(network)
    assert scene.endpoint(bad["id"])["disabled_reason"] == "gone"
    scene.happens()  # nobody is sent this
    assert scene.caller.patch(f"{HOOKS}/{bad['id']}", {"enabled": True}).json()["disabled_reason"] is None
    network.answers = {}
    scene.happens(id="run_3")
    scene.send(network)
    assert [message["data"]["id"] for message in network.told(BAD)][1:] == ["run_3"]
    assert scene.endpoint(bad["id"])["failing_since"] is None
