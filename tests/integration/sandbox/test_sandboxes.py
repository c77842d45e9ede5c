"""Test mode: a data space of its own, forced outcomes, a clock that moves, and nothing that looks like evidence."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from core.access import service as access
from core.access.audit import first_broken_line
from core.access.service import workspace_named
from core.certificates import service as certificates
from core.operations.service import survey
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.runs import service as runs
from core.runs.planning import plan_next
from core.sandbox import service
from tests.builders.estate import Estate
from tests.builders.sandbox import Sandbox, site_on
from tests.builders.web import Web

pytestmark = pytest.mark.integration

LISTS = ("deletion-requests", "runs", "models", "datasets", "webhook-endpoints", "hardness-assessments", "api-keys")
LISTENER = {"url": "https://hooks.example.org/unlearn", "events": []}


@pytest.fixture
def site(emptied: Engine) -> Web:
    return site_on(emptied)


@pytest.fixture
def box(site: Web) -> Sandbox:
    return Sandbox(site)


def _told(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        rows = connection.execute(text("select body from webhook_messages order by created_at, id"))
        return [json.loads(bytes(body)) for (body,) in rows]


def test_a_test_key_says_so_and_finds_something_to_work_with(box: Sandbox) -> None:
    me = box.caller.get("/v1/whoami")
    assert (me.json()["mode"], me.json()["workspace"]) == ("test", "acme:test")
    assert me.headers["x-unlearn-mode"] == "test"
    assert [one["name"] for one in box.caller.get("/v1/models").json()["data"]] == ["sandbox-model"]
    assert [one["name"] for one in box.caller.get("/v1/datasets").json()["data"]] == ["sandbox-records"]
    version = box.caller.get("/v1/models/sandbox-model/versions/latest").json()
    assert [file["url"] for file in version["files"]] == [None]


def test_live_and_test_keys_of_one_workspace_see_nothing_of_each_other(site: Web, box: Sandbox) -> None:
    live = site.customer("acme")
    with transaction(site.engine) as tx:
        built = Estate(workspace_named(tx, "acme").id)
        built.add_dataset(tx, "digits")
        built.add_model(tx, "digits", "digits")
    answer = live.post("/v1/deletion-requests", {"model": "digits", "record_ids": ["r-0"], "external_id": "one"})
    of_live = answer.json()["id"]
    of_test = box.submit(record_ids=["r-0"], external_id="one")["id"]
    for caller in (live, box.caller):
        assert caller.post("/v1/webhook-endpoints", LISTENER).status_code == 201

    def ids(caller: Web, name: str) -> set[str]:
        return {one["id"] for one in caller.get(f"/v1/{name}").json()["data"]}

    box.settle()
    assert ids(live, "deletion-requests") == {of_live}
    assert ids(box.caller, "deletion-requests") == {of_test}
    for name in LISTS:
        assert not ids(live, name) & ids(box.caller, name), name
    assert box.caller.get(f"/v1/deletion-requests/{of_live}").status_code == 404
    assert live.get(f"/v1/deletion-requests/{of_test}").status_code == 404
    assert live.post("/v1/deletion-requests", {"model": "sandbox-model", "record_ids": ["x"]}).status_code == 404
    assert box.caller.post("/v1/deletion-requests", {"model": "digits", "record_ids": ["r-0"]}).status_code == 404
    with site.engine.connect() as connection:
        states = connection.execute(text("select state from records where record_id = 'r-0' order by state")).scalars()
        assert list(states) == ["erased", "pending_erasure"], "the live record waits for a real worker"


def test_magic_names_force_outcomes(box: Sandbox) -> None:
    ends = {
        "ana": "completed",
        "fail": "failed",
        "slow": "in_progress",
        "review": "needs_review",
        "failure": "completed",
    }
    asked = {
        **{f"{word}@": box.person(f"{word}@example.org")["id"] for word in ends},
        **{f"{word}, subject": box.submit(subject_ids=[f"{word}-1"])["id"] for word in ("fail", "review")},
        **{f"{word}, record": box.submit(record_ids=[f"{word}-2"])["id"] for word in ("fail", "slow")},
    }
    box.settle()
    seen = {name: box.read(request_id) for name, request_id in asked.items()}
    wanted = {name: ends[name.rstrip("@").partition(",")[0]] for name in asked}
    assert {name: one["status"] for name, one in seen.items()} == wanted
    assert {one["record_count"] for one in seen.values()} == {1}
    box.advance(600)
    box.settle()
    assert {box.read(asked[name])["status"] for name in asked if name.startswith("slow")} == {"completed"}


def test_a_failure_has_a_code_and_is_an_error_for_pollers_who_ask(box: Sandbox) -> None:
    request = box.person("Fail+1@example.org")
    box.settle()
    assert box.read(request["id"])["error"]["code"] == "forced_failure"
    assert box.caller.get(f"/v1/deletion-requests/{request['id']}?fail_as_error=true").status_code == 422


def test_nobody_is_found_under_notfound(box: Sandbox) -> None:
    for fields in ({"identities": [{"type": "email", "value": "notfound@x.example"}]}, {"subject_ids": ["notfound-7"]}):
        made = box.submit(**fields)
        assert (made["status"], made["record_count"]) == ("completed", 0)
    unknown = box.caller.post("/v1/deletion-requests", {"record_ids": ["notfound-7"]})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_records")


def test_the_same_person_can_be_asked_for_again_and_again(box: Sandbox) -> None:
    for _ in range(2):
        for email, end in (("ana@example.org", "completed"), ("fail@example.org", "failed")):
            made = box.person(email)
            assert made["record_count"] == 1
            box.settle()
            assert box.read(made["id"])["status"] == end


def test_what_waits_for_a_person_can_be_approved_even_after_others(box: Sandbox) -> None:
    first, second = box.person("review@a.example"), box.person("review@b.example")
    box.settle()
    for request in (first, second):  # the second finds the model moved on, and is run again
        answer = box.caller.post(f"/v1/deletion-requests/{request['id']}/approve", {})
        assert answer.status_code == 200, answer.text
        box.settle()
        assert box.read(request["id"])["status"] == "completed"


def test_a_request_goes_the_way_of_every_request(box: Sandbox) -> None:
    assert box.caller.post("/v1/webhook-endpoints", LISTENER).status_code == 201
    request = box.person("ana@example.org")
    box.settle()
    done = box.read(request["id"])
    assert done["test"] is True
    types = [event["type"] for event in box.caller.get(f"/v1/deletion-requests/{request['id']}/events").json()["data"]]
    assert types == ["created", "started", "completed"]
    run = box.caller.get(f"/v1/runs/{done['run_ids'][0]}").json()
    assert (run["status"], run["test"], run["published_version"]) == ("succeeded", True, 2)
    with box.engine.connect() as connection:
        passed = connection.execute(text("select status from run_events order by sequence")).scalars().all()
    assert passed == [
        "queued", "preparing", "assessing", "unlearning", "evaluating", "publishing", "succeeded",
    ]  # fmt: skip
    told = _told(box.engine)
    assert {one["type"] for one in told} >= {"deletion_request.created", "run.succeeded", "deletion_request.completed"}
    assert all(one["test"] is True for one in told)
    with transaction(box.engine) as tx:
        assert first_broken_line(tx, tx.scalar(text("select id from workspaces where test_of is not null"))) is None


def test_nothing_of_a_sandbox_is_evidence_or_work_for_a_worker(box: Sandbox) -> None:
    request = box.person("ana@example.org")
    with transaction(box.engine) as tx:
        assert plan_next(tx, at=utc_now()) is None, "the planner plans real work only"
    box.turn()
    with transaction(box.engine) as tx:
        tx.execute(text("update runs set status = 'queued', lease_until = null, lease_token = null"))
    with transaction(box.engine) as tx:
        assert runs.claim(tx, run_id=None, owner="gpu", ttl_s=60, at=utc_now()) is None
    box.settle()
    done = box.read(request["id"])
    assert (done["status"], done["certificate_ids"]) == ("completed", [])
    with transaction(box.engine) as tx:
        assert certificates.waiting(tx, limit=10) == []
    run = box.caller.get(f"/v1/runs/{done['run_ids'][0]}").json()
    assert run["metrics"] is None
    assert run["gates"] == []
    assert run["verdict_reasons"] == ["Test mode: nothing was computed or measured."]
    report = box.caller.get("/v1/reports/compliance")
    assert report.json()["test"] is True
    table = box.caller.get("/v1/reports/compliance?format=csv")
    assert 'filename="test-compliance-' in table.headers["content-disposition"]


def test_the_reaper_leaves_runs_of_sandboxes_alone(box: Sandbox) -> None:
    box.person("ana@example.org")
    box.turn()
    box.advance(60)
    with transaction(box.engine) as tx:
        assert runs.reap_next(tx, max_attempts=1, at=utc_now()) is None


def test_a_run_can_be_cancelled(box: Sandbox) -> None:
    request = box.person("slow@example.org")
    box.settle()
    (run_id,) = box.read(request["id"])["run_ids"]
    assert box.caller.post(f"/v1/runs/{run_id}/cancel").status_code == 202
    box.turn()
    assert box.caller.get(f"/v1/runs/{run_id}").json()["status"] == "cancelled"
    assert box.read(request["id"])["status"] == "needs_review"


def test_holds_and_deadlines_come_when_the_clock_is_advanced(box: Sandbox) -> None:
    assert box.caller.post("/v1/webhook-endpoints", LISTENER).status_code == 201
    request = box.person("review@example.org", regulation="gdpr", hold_seconds=86_400)
    box.turn()
    before = box.read(request["id"])
    assert before["status"] == "pending"
    box.advance(86_000)
    box.turn()
    assert box.read(request["id"])["status"] == "pending"
    box.advance(400)
    box.turn()
    after = box.read(request["id"])
    assert after["status"] == "in_progress"
    moved = datetime.fromisoformat(before["due_at"]) - datetime.fromisoformat(after["due_at"])
    assert moved == timedelta(days=1)
    box.settle()
    for _ in range(2):
        box.advance(20 * 86_400)
        box.turn()
    types = [one["type"] for one in _told(box.engine)]
    assert "deletion_request.deadline_approaching" in types
    assert "deletion_request.overdue" in types


def test_a_poller_sees_that_time_has_passed(box: Sandbox) -> None:
    request = box.person("review@example.org")
    box.settle()
    path = f"/v1/deletion-requests/{request['id']}"
    etag = box.caller.get(path).headers["etag"]
    assert box.caller.get(path, headers={"If-None-Match": etag}).status_code == 304
    box.advance(1)
    assert box.caller.get(path, headers={"If-None-Match": etag}).status_code == 200


def test_one_clock_moves_one_sandbox_and_no_live_data(site: Web, box: Sandbox) -> None:
    other = Sandbox(site, "umbrella")
    live = site.customer("acme")
    with transaction(site.engine) as tx:
        built = Estate(workspace_named(tx, "acme").id)
        built.add_dataset(tx, "digits")
        built.add_model(tx, "digits", "digits")
    path = f"/v1/deletion-requests/{live.post('/v1/deletion-requests', {'record_ids': ['r-0']}).json()['id']}"
    theirs = other.person("ana@example.org", hold_seconds=60)
    before = (live.get(path).json(), other.read(theirs["id"]))
    box.person("ana@example.org")
    box.advance(3600)
    assert (live.get(path).json(), other.read(theirs["id"])) == before


def test_only_test_keys_have_a_clock(site: Web, box: Sandbox) -> None:
    answer = site.customer("acme").post("/v1/test/clock/advance", {"seconds": 1})
    assert (answer.status_code, answer.json()["code"]) == (404, "only_in_test_mode")
    for wrong in (0, -1, 1.5, "soon", 10**9, None):
        assert box.caller.post("/v1/test/clock/advance", {"seconds": wrong}).status_code == 422, wrong


def test_a_test_key_makes_no_live_key(box: Sandbox) -> None:
    live = box.caller.post("/v1/api-keys", {"name": "x", "scopes": ["*"], "mode": "live"})
    assert (live.status_code, live.json()["errors"][0]["pointer"]) == (422, "/mode")
    made = box.caller.post("/v1/api-keys", {"name": "x", "scopes": ["*"], "mode": "test"}).json()
    second = box.caller.with_key(made["secret"]).get("/v1/whoami").json()
    assert (second["workspace"], second["mode"]) == ("acme:test", "test")
    with transaction(box.engine) as tx, pytest.raises(access.InvalidInput):
        access.create_workspace(tx, name="umbrella:test", actor="cli", at=utc_now())


def test_an_assessment_ends_as_well(box: Sandbox) -> None:
    def assess(subject: str) -> dict[str, Any]:
        body = {"model": "sandbox-model", "subject_ids": [subject]}
        answer = box.caller.post("/v1/hardness-assessments", body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    made = {subject: assess(subject)["id"] for subject in ("ana", "fail-ana")}
    box.settle()
    seen = {subject: box.caller.get(f"/v1/hardness-assessments/{made[subject]}").json() for subject in made}
    assert {subject: one["status"] for subject, one in seen.items()} == {"ana": "succeeded", "fail-ana": "failed"}
    assert seen["ana"]["test"] is True
    assert seen["ana"]["result"]["advice"] == "Test mode: nothing was computed or measured."


def test_what_is_old_by_the_real_clock_is_deleted_in_sandboxes_only(site: Web, box: Sandbox) -> None:
    live = site.customer("acme")
    with transaction(site.engine) as tx:
        built = Estate(workspace_named(tx, "acme").id)
        built.add_dataset(tx, "digits")
        built.add_model(tx, "digits", "digits")
    kept = live.post("/v1/deletion-requests", {"record_ids": ["r-0"]}).json()["id"]
    requests = [box.person(f"{word}@example.org")["id"] for word in ("ana", "bo", "review", "slow")]
    box.caller.post("/v1/hardness-assessments", {"model": "sandbox-model", "subject_ids": ["ana"]})
    box.settle()
    box.advance(60 * 86_400)
    with transaction(site.engine) as tx:
        assert service.expire(tx, at=utc_now() + timedelta(days=29)) == 0, "moving the clock makes nothing old"
    with transaction(site.engine) as tx:
        assert service.expire(tx, at=utc_now() + timedelta(days=31)) == 9
    assert {box.caller.get(f"/v1/deletion-requests/{one}").status_code for one in requests} == {404}
    assert box.caller.get("/v1/runs").json()["data"] == []
    assert live.get(f"/v1/deletion-requests/{kept}").status_code == 200
    with site.engine.connect() as connection:
        left = connection.execute(text("select dataset_id from records group by dataset_id")).scalars().all()
        assert left == [built.datasets["digits"]]
    assert box.person("ana@example.org")["record_count"] == 1, "the sandbox goes on"
    box.settle()


def test_operators_are_not_told_of_sandboxes(box: Sandbox) -> None:
    box.person("review@example.org", due_at="2031-01-01T00:00:00Z")
    box.person("slow@example.org")
    box.settle()
    box.person("ana@example.org", hold_seconds=60)
    box.advance(400 * 86_400)
    with transaction(box.engine) as tx:
        found = survey(tx)
    assert (found.requests, found.runs, set(found.deadlines.values())) == ({}, {}, {0})
    assert (found.leases_run_out, found.oldest["runs"]) == (0, 0)
