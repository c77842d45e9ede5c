"""SIGKILL of whatever takes part, at each moment of a run's life: see ``rig.check`` for what must hold afterwards."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import httpx
import pytest

from tests.builders.rig import Rig
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.faults

Reached = Callable[[str, int], None]


@contextmanager
def _phase(rig: Rig, name: str) -> Generator[Reached]:
    with rig.held(name):
        yield lambda run_id, attempt: rig.wait_phase(run_id, name, attempt)


@contextmanager
def _upload(rig: Rig, path: str) -> Generator[Reached]:
    with rig.proxy.trouble("hold", method="PUT", path=path) as trouble:

        def reached(run_id: str, attempt: int) -> None:
            trouble.wait_met(attempt)
            rig.wait_phase(run_id, "publishing", attempt)

        yield reached


@contextmanager
def _publishing(rig: Rig) -> Generator[Reached]:
    """The transaction that publishes has begun and cannot end."""
    with rig.locked("model_versions") as locked:

        def reached(run_id: str, attempt: int) -> None:
            rig.wait_attempt(run_id, attempt)
            locked.wait_blocked()

        yield reached


MOMENTS = {
    "preparing": lambda rig: _phase(rig, "preparing"),
    "assessing": lambda rig: _phase(rig, "assessing"),
    "unlearning": lambda rig: _phase(rig, "unlearning"),
    "evaluating": lambda rig: _phase(rig, "evaluating"),
    "weights": lambda rig: _upload(rig, "model.safetensors"),
    "manifest": lambda rig: _upload(rig, "manifest.json"),
    "publication": _publishing,
}


WITH_CHILD = set(MOMENTS) - {"publication"}
"""Its part is done by then."""
WITHOUT_WORKER = {"assessing", "evaluating"}
"""For the worker they are moments like ``unlearning``."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_whoever_is_killed_in_a_run_it_ends_with_one_version(rig: Rig, moment: str) -> None:
    attempt = 1
    with MOMENTS[moment](rig) as reached:
        request_id = rig.ask("faces", list(MOMENTS).index(moment))
        run_id = rig.run_of(request_id)
        reached(run_id, attempt)
        if moment in WITH_CHILD:
            child = rig.child_of(run_id)
            assert child is not None
            child.kill()
            attempt += 1
            reached(run_id, attempt)
        if moment not in WITHOUT_WORKER:
            killed, orphan = rig.worker_of(run_id), rig.child_of(run_id)
            rig.kill(killed)
            if orphan is not None:
                orphan.wait(timeout=20)  # it ends with its worker
            attempt += 1
            reached(run_id, attempt)
            assert rig.worker_of(run_id) != killed
        if moment in ("unlearning", "publication"):
            rig.kill("loops")
            rig.kill("api")
            rig.start("loops", "api")
    assert rig.ended(request_id) == "completed"
    assert rig.run(run_id).attempt == attempt


def test_a_request_that_an_api_was_killed_over_is_accepted_once(rig: Rig) -> None:
    body = {"model": "faces", "subject_ids": ["writer-20"], "external_id": "asked-twice"}
    key = {"Idempotency-Key": "a-key-of-sixteen-characters"}
    broken: list[httpx.TransportError] = []

    def ask() -> None:
        try:
            rig.customer.http.post("/v1/deletion-requests", json=body, headers=key)
        except httpx.TransportError as error:
            broken.append(error)

    with rig.locked("outbox") as locked:
        asking = threading.Thread(target=ask)
        before = locked.blocked()
        asking.start()
        locked.wait_blocked(before)
        rig.kill("api")
        asking.join(timeout=60)
    assert broken
    rig.start("api")
    rig.wait_api()
    first = rig.customer.post("/v1/deletion-requests", body, expect=202, **key)
    again = rig.customer.post("/v1/deletion-requests", body, expect=202, **key)
    assert first["id"] == again["id"]
    assert rig.ended(rig.accept(first)) == "completed"
    found = rig.customer.get("/v1/deletion-requests?external_id=asked-twice")["data"]
    assert [one["id"] for one in found] == [first["id"]]


def test_loops_killed_in_their_transactions_plan_relay_and_reap_once(rig: Rig) -> None:
    """Planner, relay and reaper all write to the outbox; each is killed when it is about to."""
    with rig.held("unlearning"):
        lost = rig.run_of(rig.ask("faces", 21))
        rig.wait_phase(lost, "unlearning", 1)
        with rig.paused(rig.worker_of(lost)), rig.locked("outbox") as locked:
            locked.wait_blocked()  # the reaper, who takes the run back
            rig.kill("loops")
        rig.start("loops")
    wait_until(lambda: rig.run(lost).status == "succeeded", timeout_s=120, what="the run")
