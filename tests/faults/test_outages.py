"""Servers restarted, emptied, cut off and filled up under a service at work: it waits, goes on, and loses nothing."""

import pytest

from core.deletions.lifecycle import Status
from tests.builders.rig import Rig
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.faults


def test_a_run_outlasts_a_restart_of_the_database(rig: Rig) -> None:
    with rig.held("unlearning"):
        request_id = rig.ask("faces", 30)
        run_id = rig.run_of(request_id)
        rig.wait_phase(run_id, "unlearning", 1)
        with rig.postgres.down():
            answer = rig.customer.http.get("/readyz")
            assert (answer.status_code, answer.json()["parts"]["database"]["status"]) == (503, "down")
    assert rig.ended(request_id) == Status.COMPLETED


def test_requests_are_taken_and_run_while_the_broker_is_away_frozen_or_emptied(rig: Rig) -> None:
    with rig.redis.down():
        assert rig.ended(rig.ask("faces", 31)) == Status.COMPLETED
    with rig.redis.frozen():
        assert rig.ended(rig.ask("faces", 32)) == Status.COMPLETED
    rig.redis.flush()
    assert rig.ended(rig.ask("faces", 43)) == Status.COMPLETED


def test_no_run_is_claimed_while_the_store_refuses(rig: Rig) -> None:
    with rig.proxy.trouble("refuse", method="HEAD") as refusing:  # as workers ask whether it is there
        request_id = rig.ask("faces", 33)
        run_id = rig.run_of(request_id)
        refusing.wait_met(3)
        assert rig.run(run_id).attempt == 0
    assert rig.ended(request_id) == Status.COMPLETED
    assert rig.run(run_id).attempt == 1


@pytest.mark.parametrize("kind", ["refuse", "unavailable", "slow", "cut", "full"])
def test_one_attempt_outlasts_a_store_that_falters_under_its_upload(rig: Rig, kind: str) -> None:
    writer = 34 + ["refuse", "unavailable", "slow", "cut", "full"].index(kind)
    with rig.proxy.trouble(kind, method="PUT", path="/models/faces/", times=4) as trouble:
        request_id = rig.ask("faces", writer)
        assert rig.ended(request_id) == Status.COMPLETED
    assert trouble.met >= 2  # the weights and the manifest at least
    assert rig.run(rig.run_of(request_id)).attempt == 1


def test_a_download_that_breaks_off_is_no_short_file(rig: Rig) -> None:
    with rig.proxy.trouble("cut", method="GET", path="model.safetensors", times=2) as trouble:
        request_id = rig.ask("faces", 40)
        assert rig.ended(request_id) == Status.COMPLETED
    assert trouble.met == 2


def test_a_full_disk_sends_the_run_back_with_the_reason_and_it_goes_on_later(rig: Rig) -> None:
    with rig.held("disk-full"):
        request_id = rig.ask("faces", 41)
        run_id = rig.run_of(request_id)

        def sent_back() -> bool:
            return any(event.type == "requeued" for event in rig.events(run_id))

        wait_until(sent_back, timeout_s=60, what="the run to come back")
    (event,) = [event for event in rig.events(run_id) if event.type == "requeued"][:1]
    assert (event.status, event.detail["code"]) == ("queued", "disk_full")
    assert "WORK_DIR" in event.detail["message"]
    assert rig.ended(request_id) == Status.COMPLETED
    wait_until(lambda: not list((rig.folder / "work").iterdir()), what="clean work folders")
