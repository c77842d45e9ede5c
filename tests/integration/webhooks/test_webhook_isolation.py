"""A slow or dead receiver delays nobody, and messages about one thing leave in order."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Engine

from core.webhooks.sending import Answer
from tests.builders.receiver import Receiver, Reply
from tests.builders.waiting import wait_until
from tests.builders.web import keyring
from tests.builders.webhooks import Network, Scene
from worker.loops.sender_pool import EACH_RECEIVER, run
from worker.loops.webhook_sender import THREADS, WebhookSender

pytestmark = pytest.mark.integration

SLOW, QUICK = "http://127.0.0.1:2001/", "http://127.0.0.1:2002/"


@pytest.fixture
def scene(emptied: Engine) -> Scene:
    return Scene(emptied)


class Hanging:
    """Calls to some addresses hang until they are released; the others answer at once."""

    def __init__(self, *urls: str) -> None:
        self.release = threading.Event()
        self.urls = set(urls)
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, url: str, _headers: Mapping[str, str], _body: bytes) -> Answer:
        with self._lock:
            self.calls[url] += 1
        if url in self.urls:
            assert self.release.wait(30)
        return Answer(204, None, 1)


def _healthy(scene: Scene, *endpoints: dict[str, Any]) -> None:
    ids = [endpoint["id"] for endpoint in endpoints]
    scene.sql("update webhook_endpoints set healthy = id = any(:ids)", ids=ids)


def test_a_receiver_that_hangs_delays_no_message_to_another(scene: Scene) -> None:
    never = threading.Event()
    with Receiver(lambda _: Reply(204, wait_for=never)) as slow, Receiver() as quick:
        scene.register(slow.url)
        scene.register(quick.url)
        stop = threading.Event()
        sender = WebhookSender(scene.engine, scene.settings, keyring(), None, scene.clock)
        loop = threading.Thread(target=run, args=(sender, "sender"), kwargs={"poll_s": 0.01, "stop": stop})
        loop.start()
        try:
            for number in range(1, 6):
                scene.happens(id=f"run_{number}")
                wait_until(lambda n=number: len(quick.received) == n, what="the quick receiver's message")
            assert len(slow.received) == 1  # it has answered nothing yet, so it has one call at a time
        finally:
            never.set()
            stop.set()
            loop.join(30)
        assert not loop.is_alive()


def test_an_endpoint_that_was_well_and_hangs_has_a_few_calls_and_no_more(scene: Scene) -> None:
    slow, quick = scene.register(SLOW), scene.register(QUICK)
    _healthy(scene, slow, quick)
    http = Hanging(SLOW)
    scene.happen([("run.failed", {"id": f"run_{n}"}) for n in range(3 * EACH_RECEIVER)])
    with scene.sender(http) as sender:
        wait_until(lambda: sender.turn() == 0 and http.calls[QUICK] == 3 * EACH_RECEIVER, what="the quick ones")
        assert http.calls[SLOW] == EACH_RECEIVER
        http.release.set()


def test_endpoints_that_fail_take_at_most_half_of_the_senders(scene: Scene) -> None:
    hanging = [f"http://127.0.0.1:{3000 + n}/" for n in range(THREADS + 4)]
    quick = scene.register(QUICK)
    for url in hanging:
        scene.register(url)
    _healthy(scene, quick)
    http = Hanging(*hanging)
    scene.happens()
    with scene.sender(http) as sender:
        assert sender.turn() == 1 + THREADS // 2
        wait_until(lambda: http.calls[QUICK] == 1, what="the quick one")
        scene.happens(id="run_2")
        wait_until(lambda: sender.turn() == 0 and http.calls[QUICK] == 2, what="the next one, while all others hang")
        assert sum(http.calls[url] for url in hanging) == THREADS // 2
        http.release.set()


def test_ten_thousand_due_deliveries_of_one_endpoint_starve_no_other(database: Engine) -> None:
    scene = Scene(database)  # of its own: what other tests leave in tables and statistics would slow so many rows
    busy, other = scene.register(SLOW), scene.register(QUICK, "ping")
    _healthy(scene, busy, other)
    scene.sql("analyze webhook_deliveries, webhook_messages")  # the planner goes by a time when hardly any was due
    scene.happens()
    scene.sql(
        "insert into webhook_messages (id, workspace_id, type, resource, body) "
        "select 'msg_' || n, workspace_id, type, 'run_' || n, body "
        "from webhook_messages, generate_series(1, 10000) as n"
    )
    scene.sql(
        "insert into webhook_deliveries (message_id, endpoint_id, resource, position, next_attempt_at) "
        "select m.id, :id, m.resource, m.position, cast(:at as timestamptz) - interval '1 hour' "
        "from webhook_messages m where m.resource <> 'x' on conflict do nothing",
        id=busy["id"],
        at=scene.clock.now,
    )
    scene.happens("ping")
    http = Hanging(SLOW)
    with scene.sender(http) as sender:
        sender.turn()  # the first turn already has room for both
        wait_until(lambda: http.calls[QUICK] == 1 and http.calls[SLOW] == EACH_RECEIVER, what="both")
        http.urls.clear()
        http.release.set()
        wait_until(lambda: sender.turn() and http.calls[SLOW] > 10 * EACH_RECEIVER, what="the backlog to go on")


def test_a_test_goes_before_whatever_else_waits(scene: Scene) -> None:
    endpoint = scene.register(QUICK)
    scene.happen([("run.failed", {"id": f"run_{n}"}) for n in range(3)])
    path = f"/v1/webhook-endpoints/{endpoint['id']}/test"
    scene.caller.post(path, headers={"Prefer": "respond-async"})
    network = Network()
    scene.send(network)
    assert [message["test"] for message in network.told(QUICK)] == [True, False, False, False]


def test_messages_about_one_thing_leave_in_order_each_after_the_one_before(scene: Scene) -> None:
    endpoint = scene.register(SLOW)
    _healthy(scene, endpoint)
    http = Hanging(SLOW)
    scene.happen([("run.failed", {"id": "run_1", "sequence": n}) for n in (1, 2, 3)])
    scene.happens(id="run_2")
    with scene.sender(http) as sender:
        wait_until(lambda: sender.turn() == 0 and http.calls[SLOW] == 2, what="the first of each")
        assert sender.turn() == 0  # the others about run_1 wait for the first one
        http.release.set()
    network = Network()
    scene.send(network)
    assert [message["data"]["sequence"] for message in network.told(SLOW)] == [2, 3]


def test_a_message_that_failed_holds_up_none_behind_it(scene: Scene) -> None:
    scene.register(QUICK)
    scene.happen([("run.failed", {"id": "run_1", "sequence": n}) for n in (1, 2, 3)])
    network = Network({QUICK: lambda message: 500 if message["data"]["sequence"] == 1 else 204})
    scene.send(network)
    assert [message["data"]["sequence"] for message in network.told(QUICK)] == [1, 2, 3]
    network.answers.clear()
    scene.after(5)
    scene.send(network)
    assert [message["data"]["sequence"] for message in network.told(QUICK)] == [1, 2, 3, 1]


def test_an_overloaded_endpoint_is_left_alone_and_then_tried_once(scene: Scene) -> None:
    endpoint = scene.register(QUICK)
    _healthy(scene, endpoint)
    scene.happen([("run.failed", {"id": f"run_{n}"}) for n in range(10)])
    network = Network({QUICK: 429})
    scene.send(network)
    asked = len(network.sent)
    assert asked <= EACH_RECEIVER  # those that were on their way together
    scene.after(4)
    assert scene.send(network) == 0
    scene.after(1)
    assert scene.send(network) == 1  # one tells whether it has recovered
    network.answers.clear()
    scene.after(300)
    assert scene.send(network) == 10


def test_every_sender_process_counts_alike_and_none_takes_what_another_has(scene: Scene) -> None:
    endpoint = scene.register(SLOW)
    _healthy(scene, endpoint)
    http = Hanging(SLOW)
    scene.happen([("run.failed", {"id": "run_1", "sequence": n}) for n in range(4)])
    with scene.sender(http) as one, scene.sender(http) as other:
        assert (one.turn(), other.turn()) == (1, 0)
        http.release.set()
