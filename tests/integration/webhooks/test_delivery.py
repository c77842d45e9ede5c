"""From an event to a receiver: signed, repeated by schedule, logged, given up."""

import base64
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Engine, text
from standardwebhooks import Webhook, WebhookVerificationError

from core.platform.clock import utc_now
from core.platform.database import transaction
from core.webhooks.messages import expire
from tests.builders.receiver import Received, Receiver, Reply
from tests.builders.web import keyring
from tests.builders.webhooks import HOOKS, Scene, data_of
from worker.loops.sender_pool import run
from worker.loops.webhook_sender import WebhookSender

pytestmark = pytest.mark.integration


@pytest.fixture
def scene(emptied: Engine) -> Scene:
    return Scene(emptied)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_a_message_arrives_signed_and_says_what_happened(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.register(receiver.url)
    scene.happens("run.succeeded", sequence=3)
    assert scene.send() == 1
    (got,) = receiver.received
    content = Webhook(endpoint["secret"]).verify(got.body, got.headers)
    assert content == {
        "id": got.headers["webhook-id"],
        "type": "run.succeeded",
        "timestamp": scene.clock.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "api_version": "v1",
        "test": False,
        "data": data_of("run.succeeded", sequence=3),
    }
    assert got.path == "/hook"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "unlearn" in got.headers["user-agent"]
    assert "." not in got.headers["webhook-id"]
    (logged,) = scene.deliveries(endpoint["id"])
    assert logged["status"] == "delivered"
    assert logged["delivered_at"] is not None
    assert [attempt["status_code"] for attempt in logged["attempts"]] == [204]
    assert scene.send() == 0


def test_endpoints_share_the_message_id_and_not_the_signature(scene: Scene, receiver: Receiver) -> None:
    first, second = scene.register(receiver.url), scene.register(receiver.url + "2")
    scene.happens()
    assert scene.send() == 2
    one, two = sorted(receiver.received, key=lambda got: got.path)
    assert one.headers["webhook-id"] == two.headers["webhook-id"]
    assert one.body == two.body
    Webhook(first["secret"]).verify(one.body, one.headers)
    Webhook(second["secret"]).verify(two.body, two.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(second["secret"]).verify(one.body, one.headers)


def test_failures_are_repeated_by_schedule_with_the_same_id_and_bytes(scene: Scene, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(500, body=b"out of order\0")
    endpoint = scene.register(receiver.url)
    scene.happens()
    for number, pause in enumerate([0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400], start=1):
        if pause:
            scene.after(pause - 1)
            assert scene.send() == 0, f"attempt {number} came too early"
            scene.after(1)
        assert scene.send() == 1, f"attempt {number} did not come"
    scene.after(10 * 86400)
    assert scene.send() == 0
    (logged,) = scene.deliveries(endpoint["id"])
    assert (logged["status"], logged["next_attempt_at"], len(logged["attempts"])) == ("exhausted", None, 10)
    assert logged["attempts"][0]["response"] == "out of order"
    assert len({(got.headers["webhook-id"], got.body) for got in receiver.received}) == 1
    stamps = [int(got.headers["webhook-timestamp"]) for got in receiver.received]
    assert stamps == sorted(set(stamps))


def test_a_failure_then_a_success_ends_it(scene: Scene, receiver: Receiver) -> None:
    replies = iter([Reply(302, {"Location": receiver.url + "/elsewhere"}), Reply(200)])
    receiver.answer = lambda _: next(replies)
    endpoint = scene.register(receiver.url)
    scene.happens()
    scene.send()
    scene.after(5)
    scene.send()
    assert [got.path for got in receiver.received] == ["/hook", "/hook"]  # the redirect was not followed
    (logged,) = scene.deliveries(endpoint["id"])
    assert logged["status"] == "delivered"
    assert [attempt["status_code"] for attempt in logged["attempts"]] == [302, 200]


def test_an_endpoint_that_is_not_there_is_unreachable(scene: Scene) -> None:
    with Receiver() as gone:
        url = gone.url
    endpoint = scene.register(url)
    scene.happens()
    scene.send()
    (logged,) = scene.deliveries(endpoint["id"])
    assert (logged["status"], logged["attempts"][0]["error"]) == ("pending", "unreachable")
    assert logged["attempts"][0]["status_code"] is None


def test_retry_after_holds_back_the_whole_endpoint(scene: Scene, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(429, {"Retry-After": "600"})
    scene.register(receiver.url)
    scene.happens()
    scene.send()
    receiver.answer = lambda _: Reply(204)
    scene.happens(id="run_2")  # a second message, which would be due at once
    scene.after(599)
    assert scene.send() == 0
    scene.after(1)
    assert scene.send() == 2


def test_slowing_down_reaches_messages_that_wait_already(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.register(receiver.url)
    receiver.answer = lambda _: Reply(500)
    scene.happens()
    scene.send()  # will be tried again in 5 s
    receiver.answer = lambda _: Reply(503, {"Retry-After": "900"})
    scene.happens()
    scene.send()
    times = {row["next_attempt_at"] for row in scene.deliveries(endpoint["id"])}
    assert {datetime.fromisoformat(time) for time in times} == {_milliseconds(scene.clock.now + timedelta(seconds=900))}


def _milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def test_410_disables_discards_and_tells_the_others(scene: Scene, receiver: Receiver) -> None:
    receiver.answer = lambda got: Reply(410 if got.path == "/hook" else 204)
    gone, other = scene.register(receiver.url), scene.register(receiver.url + "/other")
    scene.happens()
    scene.happens()
    scene.send()
    endpoint = scene.caller.get(f"{HOOKS}/{gone['id']}").json()
    assert (endpoint["enabled"], endpoint["disabled_reason"]) == (False, "gone")
    assert {row["status"] for row in scene.deliveries(gone["id"])} == {"discarded"}
    scene.relay()
    scene.send()
    told = json.loads([got for got in receiver.received if got.path == "/hook/other"][-1].body)
    assert told["type"] == "webhook_endpoint.disabled"
    assert told["data"] == {"id": gone["id"], "reason": "gone", "sequence": 2}
    assert other["id"] != gone["id"]
    retried = scene.caller.post(f"{HOOKS}/{gone['id']}/deliveries/{told['id']}/retry")
    assert retried.status_code == 409
    actions = scene.caller.get("/v1/audit-events?action=webhook_endpoint.disabled").json()["data"]
    assert [event["actor"] for event in actions] == ["system"]


def test_both_secrets_sign_during_the_grace_and_only_the_new_one_after(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.register(receiver.url)
    rotated = scene.caller.post(f"{HOOKS}/{endpoint['id']}/rotate-secret", {"grace_seconds": 100}).json()
    old, new = Webhook(endpoint["secret"]), Webhook(rotated["secret"])
    assert endpoint["secret"] != rotated["secret"]
    scene.happens()
    scene.send()
    got = receiver.received[-1]
    old.verify(got.body, got.headers)
    new.verify(got.body, got.headers)
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    scene.after(101)
    scene.happens()
    scene.send()
    got = receiver.received[-1]
    new.verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        old.verify(got.body, got.headers)


def test_an_asymmetric_endpoint_signs_with_a_key_of_which_receivers_have_the_public_half(
    scene: Scene, receiver: Receiver
) -> None:
    endpoint = scene.register(receiver.url, algorithm="ed25519")
    assert endpoint["secret"] is None
    read = scene.caller.get(f"{HOOKS}/{endpoint['id']}/secret").json()
    assert read["public_key"] == endpoint["public_key"]
    assert "whsk_" not in json.dumps(read)
    scene.happens()
    scene.send()
    _verify_asymmetric(receiver.received[-1], endpoint["public_key"])
    rotated = scene.caller.post(f"{HOOKS}/{endpoint['id']}/rotate-secret", {"algorithm": "hmac-sha256"}).json()
    scene.happens()
    scene.send()
    got = receiver.received[-1]
    assert [token.partition(",")[0] for token in got.headers["webhook-signature"].split(" ")] == ["v1", "v1a"]
    Webhook(rotated["secret"]).verify(got.body, got.headers)
    _verify_asymmetric(got, endpoint["public_key"])


def _verify_asymmetric(got: Received, public_key: str) -> None:
    content = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    token = got.headers["webhook-signature"].split(" ")[-1]
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    public.verify(base64.b64decode(token.removeprefix("v1a,")), content)  # raises


def test_without_grace_the_old_secret_ends_at_once(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.register(receiver.url)
    scene.caller.post(f"{HOOKS}/{endpoint['id']}/rotate-secret", {"grace_seconds": 0})
    scene.happens()
    scene.send()
    assert len(receiver.received[-1].headers["webhook-signature"].split(" ")) == 1


@pytest.mark.parametrize("first", [204, 500])
def test_a_message_can_be_sent_again_on_request(scene: Scene, receiver: Receiver, first: int) -> None:
    receiver.answer = lambda _: Reply(first)
    endpoint = scene.register(receiver.url)
    scene.happens()
    scene.send()
    receiver.answer = lambda _: Reply(204)
    message_id = receiver.received[0].headers["webhook-id"]
    again = scene.caller.post(f"{HOOKS}/{endpoint['id']}/deliveries/{message_id}/retry")
    assert again.status_code == 202
    assert scene.send() == 1
    assert {got.headers["webhook-id"] for got in receiver.received} == {message_id}
    (logged,) = scene.deliveries(endpoint["id"])
    assert (logged["status"], len(logged["attempts"])) == ("delivered", 2)
    assert scene.caller.post(f"{HOOKS}/{endpoint['id']}/deliveries/msg_none/retry").status_code == 404


def test_an_exhausted_message_can_be_sent_once_more(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.register(receiver.url)
    scene.happens()
    with scene.engine.begin() as connection:
        connection.execute(
            text("update webhook_deliveries set status = 'exhausted', attempts = 10, next_attempt_at = null")
        )
    (row,) = scene.deliveries(endpoint["id"])
    scene.caller.post(f"{HOOKS}/{endpoint['id']}/deliveries/{row['message_id']}/retry")
    receiver.answer = lambda _: Reply(500)
    assert scene.send() == 1
    assert scene.deliveries(endpoint["id"])[0]["status"] == "exhausted"


def test_a_sender_that_dies_in_between_repeats_the_attempt(scene: Scene, receiver: Receiver) -> None:
    class Killed(BaseException):
        pass

    scene.register(receiver.url)
    scene.happens()
    broken = lambda _url, _headers, _body: (_ for _ in ()).throw(Killed)  # noqa: E731
    with WebhookSender(scene.engine, scene.settings, keyring(), broken, scene.clock) as sender:
        assert sender.turn() == 1
    assert scene.send() == 0  # claimed: not due until the claim runs out
    scene.after(15 + 30)
    assert scene.send() == 1
    assert len(receiver.received) == 1


def test_two_senders_never_take_the_same_delivery(scene: Scene, receiver: Receiver) -> None:
    scene.register(receiver.url)
    for _ in range(12):
        scene.happens()
    threads = [threading.Thread(target=scene.send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert len(ids) == len(set(ids)) == 12


def test_the_loop_sends_and_stops_when_it_is_told(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.register(receiver.url)
    stop = threading.Event()
    sender = WebhookSender(scene.engine, scene.settings, keyring())
    loop = threading.Thread(target=run, args=(sender, "sender"), kwargs={"poll_s": 0.01, "stop": stop})
    loop.start()
    answer = scene.caller.post(f"{HOOKS}/{endpoint['id']}/test", {"type": "ping"})
    stop.set()
    loop.join(30)
    assert not loop.is_alive()
    assert answer.status_code == 200  # it waited for the outcome without being asked to
    assert [attempt["status_code"] for attempt in answer.json()["attempts"]] == [204]
    sent = json.loads(receiver.received[0].body)
    assert (sent["type"], sent["test"]) == ("ping", True)


def test_the_log_is_forgotten_after_thirty_days_unless_it_still_waits(scene: Scene, receiver: Receiver) -> None:
    endpoint = scene.register(receiver.url)
    scene.happens()
    scene.send()
    receiver.answer = lambda _: Reply(500)
    scene.happens()
    scene.send()
    with transaction(scene.engine) as tx:
        assert expire(tx, at=utc_now() + timedelta(days=29)) == 0
        assert expire(tx, at=utc_now() + timedelta(days=31)) == 1
    assert [row["status"] for row in scene.deliveries(endpoint["id"])] == ["pending"]


def test_secrets_are_in_no_log_line(scene: Scene, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    endpoint = scene.register(receiver.url)
    scene.happens()
    scene.send()
    assert "whsec_" not in caplog.text
    assert endpoint["secret"].removeprefix("whsec_") not in caplog.text
    assert Received  # the receiver saw the signature, the log did not
    assert receiver.received[0].headers["webhook-signature"] not in caplog.text


def test_what_is_no_longer_kept_is_not_there(scene: Scene) -> None:
    scene.happens()
    (event,) = scene.caller.get("/v1/events").json()["data"]
    with transaction(scene.engine) as tx:
        expire(tx, at=utc_now() + timedelta(days=31))
    assert scene.caller.get(f"/v1/events/{event['id']}").json()["code"] == "event_not_found"


def test_static_headers_go_with_every_message_and_are_shown_with_the_secret_only(
    scene: Scene, receiver: Receiver
) -> None:
    endpoint = scene.register(receiver.url, headers={"Authorization": "Bearer theirs", "X-Team": "privacy"})
    path = f"{HOOKS}/{endpoint['id']}"
    scene.happens()
    scene.send()
    assert receiver.received[0].headers["authorization"] == "Bearer theirs"
    shown = scene.caller.get(path)
    assert shown.json()["header_names"] == ["Authorization", "X-Team"]
    assert "theirs" not in shown.text + scene.caller.get(f"{path}/deliveries").text
    assert scene.caller.get(f"{path}/secret").json()["headers"]["Authorization"] == "Bearer theirs"
    with scene.engine.connect() as connection:
        assert "theirs" not in connection.execute(text("select w::text from webhook_endpoints w")).scalar_one()
    scene.caller.patch(path, {"headers": {}})
    scene.happens()
    scene.send()
    assert "authorization" not in receiver.received[1].headers


def test_a_retry_after_date_is_heeded(scene: Scene, receiver: Receiver) -> None:
    until = scene.clock.now + timedelta(hours=2)
    receiver.answer = lambda _: Reply(503, {"Retry-After": format_datetime(until, usegmt=True)})
    endpoint = scene.register(receiver.url)
    scene.happens()
    scene.send()
    paused = datetime.fromisoformat(scene.endpoint(endpoint["id"])["paused_until"])
    assert abs(paused - until) < timedelta(minutes=1)
