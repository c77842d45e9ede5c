"""Callbacks: each change to each address, in order, signed, by the schedule of webhooks."""

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from core.deletions.lifecycle import Status
from core.opendsr import service
from core.opendsr.deliveries import Callbacks
from core.platform.database import transaction
from core.webhooks.claiming import Room
from core.webhooks.sending import Answer
from tests.builders.opendsr import BASE, Scene, erasure, openssl_accepts, verified
from tests.builders.receiver import Receiver, Reply
from tests.builders.waiting import wait_until
from tests.builders.web import DOMAIN
from worker.loops import opendsr
from worker.loops.sender_pool import EACH_RECEIVER

pytestmark = pytest.mark.integration


@pytest.fixture
def scene(emptied: Engine) -> Scene:
    return Scene(emptied)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Network:
    """Answers as it is told, by URL, and notes what was sent."""

    def __init__(self, **answers: int) -> None:
        self.answers = answers
        self.sent: list[tuple[str, str]] = []
        self.whole: list[tuple[str, Mapping[str, str], bytes]] = []

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.sent.append((url, json.loads(body)["request_status"]))
        self.whole.append((url, headers, body))
        name = url.removeprefix("https://").partition(".")[0]
        return Answer(self.answers.get(name, 202), None, 1)


def finish(scene: Scene) -> None:
    scene.pass_hold()
    scene.turn()
    scene.end(scene.plan(), Status.COMPLETED)
    scene.turn()


def test_every_change_is_told_from_the_first_on(scene: Scene, receiver: Receiver, tmp_path: Path) -> None:
    url = f"{receiver.url}?src=un%6Cearn&x=1"
    made = scene.create(status_callback_urls=[url])["subject_request_id"]
    assert scene.send() == 1
    finish(scene)
    assert scene.send() == 2
    assert scene.send() == 0
    bodies = [verified(got.body, got.headers, scene.signer.pem) for got in receiver.received]
    assert [body["request_status"] for body in bodies] == ["pending", "in_progress", "completed"]
    assert [body["results_count"] for body in bodies] == [None, None, 2]
    for got, body in zip(receiver.received, bodies, strict=True):
        assert (body["subject_request_id"], body["status_callback_url"], body["results_url"]) == (made, url, None)
        assert body["controller_id"] == scene.built.workspace_id
        event = body["extensions"][DOMAIN]
        assert got.headers["webhook-id"] == event["event_id"]
        assert event["event_time"].endswith("Z")
        assert got.path == "/hook?src=un%6Cearn&x=1"
        assert got.headers["content-type"] == "application/json"
        assert "unlearn" in got.headers["user-agent"]
        assert not {"authorization", "cookie", "content-encoding", "x-opengdpr-signature"} & set(got.headers)
        assert got.body == json.dumps(body, separators=(",", ":")).encode()
        assert openssl_accepts(tmp_path, got.body, got.headers["x-opendsr-signature"], scene.signer.pem)
    assert len({body["extensions"][DOMAIN]["event_id"] for body in bodies}) == 3


def test_a_cancellation_is_told_and_the_old_form_under_both_names(scene: Scene, receiver: Receiver) -> None:
    body = erasure(status_callback_urls=[receiver.url])
    assert scene.caller.post("/opendsr/opengdpr_requests", body).status_code == 201
    scene.caller.delete(f"{BASE}/requests/{body['subject_request_id']}")
    scene.send()
    told = [verified(got.body, got.headers, scene.signer.pem, "OpenGDPR") for got in receiver.received]
    assert [one["request_status"] for one in told] == ["pending", "cancelled"]


def test_a_failing_address_delays_nothing_else_and_hears_in_order(scene: Scene) -> None:
    network = Network(bad=500)
    urls = ["https://bad.example/cb", "https://good.example/cb"]
    made = scene.create(status_callback_urls=urls)["subject_request_id"]
    scene.send(network)
    finish(scene)
    scene.clock.now -= timedelta(seconds=scene.settings.opendsr.hold_s + 1)  # the first retry is not due yet
    scene.sql("update opendsr_events set next_attempt_at = :at where attempts = 0", at=scene.clock.now)
    scene.send(network)
    good = [status for url, status in network.sent if url == urls[1]]
    bad = [status for url, status in network.sent if url == urls[0]]
    assert good == ["pending", "in_progress", "completed"]
    assert bad == ["pending"]
    assert scene.status(made)["request_status"] == "completed"
    network.answers = {}
    scene.clock.now += timedelta(seconds=5)
    scene.send(network)
    assert [status for url, status in network.sent if url == urls[0]] == [
        "pending",
        "pending",
        "in_progress",
        "completed",
    ]


def test_retries_follow_the_schedule_with_the_same_bytes_and_end(scene: Scene) -> None:
    network = Network(bad=403)
    made = scene.create(status_callback_urls=["https://bad.example/cb"])["subject_request_id"]
    for pause in (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400):
        if pause:
            scene.clock.now += timedelta(seconds=pause - 1)
            assert scene.send(network) == 0
            scene.clock.now += timedelta(seconds=1)
        assert scene.send(network) == 1
    scene.clock.now += timedelta(days=10)
    assert scene.send(network) == 0
    assert len({(headers["webhook-id"], body) for _, headers, body in network.whole}) == 1
    (logged,) = scene.caller.get(f"/v1/opendsr-requests/{made}/callbacks").json()["data"]
    assert (logged["status"], logged["next_attempt_at"], len(logged["attempts"])) == ("exhausted", None, 10)
    assert {attempt["status_code"] for attempt in logged["attempts"]} == {403}
    told = scene.sql("select payload from outbox where name = 'opendsr_request.callback_failed'")
    assert [one[0]["data"]["outcome"] for one in told] == ["exhausted"]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 429, 500])
def test_everything_but_2xx_is_tried_again(scene: Scene, status: int) -> None:
    scene.create(status_callback_urls=["https://bad.example/cb"])
    scene.send(Network(bad=status))
    scene.clock.now += timedelta(seconds=5)
    network = Network()
    assert scene.send(network) == 1
    scene.clock.now += timedelta(days=1)
    assert scene.send(network) == 0


def test_410_ends_it_for_that_address_of_that_request(scene: Scene) -> None:
    network = Network(gone=410)
    urls = ["https://gone.example/cb", "https://good.example/cb"]
    scene.create(status_callback_urls=urls)
    scene.send(network)
    finish(scene)
    scene.send(network)
    assert [status for url, status in network.sent if url == urls[0]] == ["pending"]
    assert len([status for url, status in network.sent if url == urls[1]]) == 3
    scene.create(status_callback_urls=urls[:1])
    scene.send(network)
    assert [status for url, status in network.sent if url == urls[0]] == ["pending", "pending"]


def test_retry_after_is_kept(scene: Scene) -> None:
    scene.create(status_callback_urls=["https://busy.example/cb"])
    scene.send(lambda *_: Answer(429, None, 1, retry_after_s=600))
    scene.clock.now += timedelta(seconds=599)
    assert scene.send(Network()) == 0
    scene.clock.now += timedelta(seconds=1)
    assert scene.send(Network()) == 1


def test_a_hanging_receiver_holds_up_nobody_else(scene: Scene, receiver: Receiver) -> None:
    never = threading.Event()
    with Receiver(lambda _: Reply(202, wait_for=never)) as slow:
        scene.create(status_callback_urls=[slow.url, receiver.url])
        with opendsr.CallbackSender(scene.engine, scene.settings, scene.signer, None, scene.clock) as sender:
            assert sender.turn() == 2
            wait_until(lambda: slow.received and receiver.received, what="both calls")
            for more in range(EACH_RECEIVER):
                scene.create(status_callback_urls=[slow.url, receiver.url])
                sender.turn()
                wait_until(lambda more=more: len(receiver.received) == more + 2, what="the next call")
            wait_until(lambda: len(slow.received) == EACH_RECEIVER, what="as many calls as one address may take")
            assert sender.turn() == 0  # not to the one that is busy
            never.set()


def test_addresses_that_have_failed_take_at_most_half_of_the_senders(scene: Scene) -> None:
    never, hanging = threading.Event(), [f"https://h{n}.example/cb" for n in range(opendsr.THREADS)]

    def network(url: str, _headers: Mapping[str, str], _body: bytes) -> Answer:
        assert url == "https://good.example/cb" or never.wait(30)
        return Answer(202, None, 1)

    scene.create(status_callback_urls=hanging[::2])
    scene.create(status_callback_urls=hanging[1::2])
    scene.sql("update opendsr_events set attempts = 1")
    scene.create(status_callback_urls=["https://good.example/cb"])
    with opendsr.CallbackSender(scene.engine, scene.settings, scene.signer, network, scene.clock) as sender:
        assert sender.turn() == 1 + opendsr.THREADS // 2
        never.set()


def test_private_addresses_are_refused_when_they_are_called(emptied: Engine, receiver: Receiver) -> None:
    scene = Scene(emptied, webhooks={"allow_http": True, "jitter": 0})
    made = scene.create(status_callback_urls=[receiver.url])["subject_request_id"]
    assert scene.send() == 1
    assert receiver.received == []
    (logged,) = scene.caller.get(f"/v1/opendsr-requests/{made}/callbacks").json()["data"]
    assert [attempt["error"] for attempt in logged["attempts"]] == ["unreachable"]


def test_redirects_are_not_followed(scene: Scene, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(302, {"Location": receiver.url + "/elsewhere"})
    scene.create(status_callback_urls=[receiver.url])
    scene.send()
    assert [got.path for got in receiver.received] == ["/hook"]


def test_an_address_named_twice_hears_once(scene: Scene) -> None:
    network = Network()
    scene.create(status_callback_urls=["https://a.example/cb", "https://a.example/cb"])
    assert scene.send(network) == 1


def test_a_sender_that_died_is_made_up_for(scene: Scene) -> None:
    scene.create(status_callback_urls=["https://a.example/cb"])

    at, until = scene.clock.now, scene.clock.now + timedelta(seconds=45)
    with transaction(scene.engine) as tx:
        assert len(Callbacks(tx).claim(Room(9, 9, suspects=False), at=at, until=until)) == 1
    network = Network()
    assert scene.send(network) == 0
    scene.clock.now = until
    assert scene.send(network) == 1


def test_the_log_is_not_kept_for_ever(scene: Scene) -> None:
    scene.create(status_callback_urls=["https://a.example/cb", "https://bad.example/cb"])
    scene.send(Network(bad=500))
    with transaction(scene.engine) as tx:
        assert service.expire(tx, at=scene.clock.now + timedelta(days=29)) == 0
        assert service.expire(tx, at=scene.clock.now + timedelta(days=31)) == 1
    assert scene.sql("select status from opendsr_events") == [("pending",)]
