"""SIGTERM: each process ends what it is in, hands back what it holds, and is gone in bounded time."""

import threading
import time

import httpx
import pytest

from core.deletions.lifecycle import Status
from tests.builders.rig import LEASE_TTL_S, Rig
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.faults
BOUND_S = 30
"""Above the 20 s that loops and the 25 s that calls of the API are given."""


def test_a_worker_hands_its_run_back_at_once(rig: Rig) -> None:
    with rig.held("unlearning"):
        request_id = rig.ask("faces", 50)
        run_id = rig.run_of(request_id)
        rig.wait_phase(run_id, "unlearning", 1)
        leaving = rig.worker_of(run_id)
        began = time.monotonic()
        assert rig.stop(leaving) == 0
        assert time.monotonic() - began < BOUND_S
        rig.wait_attempt(run_id, 2)
    assert rig.ended(request_id) == Status.COMPLETED
    back = next(event for event in rig.events(run_id) if event.type == "requeued")
    again = next(event for event in rig.events(run_id) if event.type == "claimed" and event.sequence > back.sequence)
    assert back.detail["code"] == "worker_stopped"
    assert (again.at - back.at).total_seconds() < LEASE_TTL_S


def test_the_api_answers_what_it_has_taken_on(rig: Rig) -> None:
    body = {"model": "faces", "subject_ids": ["writer-51"]}
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(rig.customer.http.post("/v1/deletion-requests", json=body))

    with rig.locked("deletion_requests") as locked:
        asking = threading.Thread(target=ask)
        asking.start()
        locked.wait_blocked()
        process = rig.service.processes.pop("api")
        process.terminate()
        wait_until(lambda: not _takes_calls(rig), what="an API that takes no new calls")
    asking.join(timeout=BOUND_S)
    assert process.wait(timeout=BOUND_S) in (0, -15)  # uvicorn raises the signal again when it is done
    assert [answer.status_code for answer in answers] == [202]
    rig.start("api")
    rig.wait_api()
    assert rig.ended(rig.accept(answers[0].json())) == Status.COMPLETED


def test_loops_end_their_turns(rig: Rig) -> None:
    request_id = rig.ask("faces", 52)
    began = time.monotonic()
    assert rig.stop("loops") == 0
    assert time.monotonic() - began < BOUND_S
    rig.start("loops")
    assert rig.ended(request_id) == Status.COMPLETED


def _takes_calls(rig: Rig) -> bool:
    try:
        return httpx.get(f"{rig.service.url}/healthz", timeout=5).is_success
    except httpx.ConnectError:
        return False
