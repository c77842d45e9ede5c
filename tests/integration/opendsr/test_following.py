"""From pending to its end: what a controller sees follows from the native deletion requests."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from core.deletions.lifecycle import Status
from core.deletions.repository import Requests
from core.opendsr.deliveries import Callbacks
from core.platform.database import transaction
from core.platform.errors import DependencyDown
from tests.builders.opendsr import BASE, Scene, erasure, signed
from tests.builders.waiting import wait_until
from tests.builders.web import DOMAIN
from worker.loops import planner

pytestmark = pytest.mark.integration


@pytest.fixture
def scene(emptied: Engine) -> Scene:
    return Scene(emptied)


def test_a_request_is_completed_when_every_model_is_done(emptied: Engine) -> None:
    scene = Scene(emptied, models=("digits", "other"))
    made = scene.create()["subject_request_id"]
    held = scene.status(made)
    assert (held["request_status"], held["results_url"], held["results_count"]) == ("pending", None, None)
    assert scene.turn() == 0
    scene.pass_hold()
    assert scene.turn() == 1
    assert (scene.status(made)["request_status"], scene.finer(made)["state"]) == ("in_progress", "queued")
    first, second = scene.plan(), scene.plan()
    scene.turn()
    assert scene.finer(made)["state"] == "running"
    scene.end(first, Status.COMPLETED)
    scene.turn()
    assert scene.status(made)["request_status"] == "in_progress"
    scene.end(second, Status.COMPLETED)
    scene.turn()
    done = scene.status(made)
    assert (done["request_status"], done["results_count"], done["results_url"]) == ("completed", 2, None)
    finer = done["extensions"][DOMAIN]
    assert (finer["state"], finer["reason"]) == ("done", None)
    assert finer["evidence_url"].endswith(finer["request_id"])
    assert scene.turn() == 0
    assert scene.caller.delete(f"{BASE}/requests/{made}").status_code == 409


def test_polling_is_told_when_to_come_again_until_the_end(scene: Scene) -> None:
    nobody = [{"identity_type": "email", "identity_value": "nobody@example.org", "identity_format": "raw"}]
    made = scene.create(subject_identities=nobody)["subject_request_id"]
    open_ = scene.caller.get(f"{BASE}/requests/{made}")
    assert (open_.headers["retry-after"], open_.headers["cache-control"]) == ("60", "no-store")
    scene.pass_hold()
    scene.turn()
    ended = scene.caller.get(f"{BASE}/requests/{made}")
    assert "retry-after" not in ended.headers
    assert (ended.json()["request_status"], ended.json()["results_count"]) == ("completed", 0)
    told = scene.sql("select count(*) from opendsr_events")
    assert told == [(0,)]


def test_what_is_held_and_needs_no_model_ends_with_the_hold(scene: Scene) -> None:
    made = scene.create(subject_identities=None, extensions={DOMAIN: {"record_ids": ["t-0"]}})["subject_request_id"]
    assert not planner.turn(scene.engine)
    scene.pass_hold()
    assert planner.turn(scene.engine)
    scene.turn()
    assert (scene.status(made)["request_status"], scene.status(made)["results_count"]) == ("completed", 1)


def test_a_pending_request_can_be_cancelled_and_again(scene: Scene) -> None:
    made = scene.create()["subject_request_id"]
    first = scene.caller.delete(f"{BASE}/requests/{made}")
    assert first.status_code == 202
    assert set(signed(first, scene)) == {"controller_id", "subject_request_id", "received_time", "api_version"}
    scene.clock.now += timedelta(seconds=60)
    again = scene.caller.delete(f"{BASE}/requests/{made}")
    assert (again.status_code, again.json()) == (202, first.json())
    assert scene.status(made)["request_status"] == "cancelled"
    assert scene.sql("select distinct status from deletion_requests") == [("cancelled",)]
    assert scene.sql("select count(*) from records where state <> 'active'") == [(0,)]
    scene.pass_hold()
    assert scene.turn() == 0


def test_what_a_run_has_taken_cannot_be_cancelled_and_says_so_at_once(scene: Scene) -> None:
    made = scene.create()["subject_request_id"]
    scene.pass_hold()
    scene.plan()  # before we have looked
    answer = scene.caller.delete(f"{BASE}/requests/{made}")
    assert answer.status_code == 409
    assert signed(answer, scene)["error"]["errors"][0]["reason"] == "SubjectRequestNotPending"
    assert scene.status(made)["request_status"] == "in_progress"
    assert scene.caller.delete(f"{BASE}/requests/{made}").status_code == 409


@pytest.mark.parametrize(("asked", "hold_s"), [(0, 2), (1, 2), (2, 2), (900, 900), (None, 300)])
def test_the_hold_is_as_asked_and_never_too_short(scene: Scene, asked: Any, hold_s: int) -> None:
    made = scene.create(extensions={DOMAIN: {"hold_seconds": asked}})["subject_request_id"]
    scene.clock.now += timedelta(seconds=hold_s - 1)
    assert scene.turn() == 0
    scene.clock.now += timedelta(seconds=1)
    assert scene.turn() == 1
    assert scene.status(made)["request_status"] == "in_progress"


def test_only_the_models_that_were_named_are_asked(emptied: Engine) -> None:
    scene = Scene(emptied, models=("digits", "other", "third"))
    named = ["other", scene.built.models["digits"], "other"]
    made = scene.create(extensions={DOMAIN: {"model_ids": named}})["subject_request_id"]
    natives = [scene.caller.get(f"/v1/deletion-requests/{one}").json() for one in scene.finer(made)["request_ids"]]
    assert [native["models"] for native in natives] == [["other"], ["digits"]]
    assert scene.caller.delete(f"{BASE}/requests/{made}").status_code == 202
    assert scene.sql("select distinct status from deletion_requests") == [("cancelled",)]


@pytest.mark.parametrize("more", [{}, {"extensions": {DOMAIN: {"model_ids": ["digits", "other"]}}}])
def test_requests_are_not_made_beside_others(emptied: Engine, more: dict[str, Any]) -> None:
    scene = Scene(emptied, models=("digits", "other"))
    waiting = (
        "select 1 from pg_locks l join pg_database d on d.oid = l.database"
        " where d.datname = current_database() and l.locktype = 'advisory' and not l.granted"
    )
    with ThreadPoolExecutor(1) as pool:
        with transaction(emptied) as tx:
            Requests(tx).submit_among_others(scene.built.workspace_id)
            coming = pool.submit(scene.create, **more)
            wait_until(lambda: bool(scene.sql(waiting)) or coming.done())
            assert not coming.done()
        assert len(coming.result(30)["subject_request_id"]) == 36


def test_what_cannot_be_finished_stays_in_progress_and_raises_an_alarm(scene: Scene) -> None:
    receipt = scene.create()
    made = receipt["subject_request_id"]
    scene.pass_hold()
    scene.end(scene.plan(), Status.FAILED, code="rejected")
    scene.turn()
    said = scene.status(made)
    assert (said["request_status"], said["results_count"]) == ("in_progress", None)
    finer = said["extensions"][DOMAIN]
    assert (finer["state"], finer["reason"]) == ("needs_attention", "rejected")
    assert said["expected_completion_time"] > receipt["expected_completion_time"]
    alarms = scene.sql("select payload from outbox where name = 'opendsr_request.needs_attention'")
    assert [alarm[0]["data"]["reason"] for alarm in alarms] == ["rejected"]
    assert scene.turn() == 0


def test_what_has_failed_can_be_asked_for_again_and_then_be_completed(scene: Scene) -> None:
    made = scene.create()["subject_request_id"]
    again = f"/v1/opendsr-requests/{made}/retry"
    assert scene.caller.post(again).status_code == 409
    scene.pass_hold()
    scene.end(scene.plan(), Status.FAILED, code="rejected")
    scene.turn()
    retried = scene.caller.post(again)
    assert retried.status_code == 200
    assert (retried.json()["state"], retried.json()["reason"]) == ("queued", None)
    scene.end(scene.plan(), Status.COMPLETED)
    scene.turn()
    assert (scene.status(made)["request_status"], scene.status(made)["results_count"]) == ("completed", 2)
    assert scene.sql("select distinct state from records where record_id in ('r-0', 'r-2')") == [("erased",)]
    assert scene.caller.post(again).status_code == 409


def test_waiting_for_a_person_passes_when_the_person_decides(scene: Scene) -> None:
    made = scene.create()["subject_request_id"]
    scene.pass_hold()
    run_id = scene.plan()
    scene.end(run_id, Status.NEEDS_REVIEW)
    scene.turn()
    assert scene.finer(made)["reason"] == "waiting_for_review"
    scene.end(run_id, Status.COMPLETED)
    scene.turn()
    assert scene.status(made)["request_status"] == "completed"


def test_a_withdrawal_behind_the_controllers_back_is_no_completion(scene: Scene) -> None:
    made = scene.create()["subject_request_id"]
    native = scene.finer(made)["request_id"]
    assert scene.caller.post(f"/v1/deletion-requests/{native}/cancel").status_code == 200
    scene.pass_hold()
    scene.turn()
    assert scene.status(made)["request_status"] == "in_progress"
    assert scene.finer(made)["reason"] == "withdrawn_by_operator"


def test_two_requests_for_one_person_live_apart(scene: Scene) -> None:
    first, second = scene.create()["subject_request_id"], scene.create()["subject_request_id"]
    assert scene.caller.delete(f"{BASE}/requests/{first}").status_code == 202
    scene.pass_hold()
    scene.end(scene.plan(), Status.COMPLETED)
    scene.turn()
    assert scene.status(first)["request_status"] == "cancelled"
    assert (scene.status(second)["request_status"], scene.status(second)["results_count"]) == ("completed", 2)


def test_every_step_is_in_the_audit_log(scene: Scene) -> None:
    made = scene.create()["subject_request_id"]
    scene.caller.delete(f"{BASE}/requests/{made}")
    lines = scene.caller.get("/v1/audit-events?action=opendsr_request.*").json()["data"]
    assert [line["action"] for line in lines] == ["opendsr_request.cancelled", "opendsr_request.created"]
    assert all(line["details"]["subject_request_id"] == made for line in lines)


def test_the_promise_keeps_within_the_legal_term(scene: Scene) -> None:
    submitted = scene.clock.now - timedelta(days=44)
    receipt = scene.create(regulation="ccpa", submitted_time=submitted.isoformat())
    expected = datetime.fromisoformat(receipt["expected_completion_time"])
    assert abs(expected - (submitted + timedelta(days=45))) < timedelta(seconds=1)


def test_a_request_is_taken_whole_or_not_at_all(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DependencyDown("The database went away.")

    monkeypatch.setattr(Callbacks, "put", fail)
    answer = scene.caller.post(f"{BASE}/requests", erasure(status_callback_urls=["https://a.example/"]))
    assert answer.status_code == 503
    assert scene.sql("select count(*) from opendsr_requests") == [(0,)]
    assert scene.sql("select count(*) from deletion_requests") == [(0,)]
    assert scene.sql("select count(*) from audit_events where action not like 'api_key%'") == [(0,)]
