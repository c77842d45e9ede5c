"""Runs over HTTP: reading, steps as JSON and CSV, following live, cancelling."""

import asyncio
import threading
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import Engine, select, update

from core.access.service import workspace_named
from core.platform.clock import utc_now
from core.platform.database import transaction
from core.platform.leases import Lease
from core.platform.outbox import OutboxRow
from core.runs import finishing, service
from core.runs.planning import plan_next
from core.runs.tables import Run, RunEvent
from core.unlearning.job import Outcome, Progress
from tests.builders.estate import AT, Estate, staged
from tests.builders.web import Web, web

pytestmark = pytest.mark.integration

ROWS = [{"step": 1, "kappa": 0.2, "branch": "direct"}, {"step": 2, "kappa": 0.1}]


@pytest.fixture
def acme(emptied: Engine) -> Web:
    return web(emptied).customer("acme")


@pytest.fixture
def lease(emptied: Engine, acme: Web) -> Lease:
    """A run of ``acme`` that a worker holds."""
    with transaction(emptied) as tx:
        built = Estate(workspace_named(tx, "acme").id)
        built.add_dataset(tx, "digits")
        built.add_model(tx, "digits", "digits")
        built.submit(tx, "r-0")
        plan_next(tx, at=AT)
        granted = service.claim(tx, run_id=None, owner="w", ttl_s=60, at=AT)
    assert granted is not None
    return granted


def report(engine: Engine, lease: Lease) -> None:
    with transaction(engine) as tx:
        latest = Progress("unlearning", step=2, max_steps=9, eta_seconds=1.0)
        service.record(tx, lease=lease, latest=latest, steps=ROWS, ttl_s=60, at=AT)


SCORES = tuple({"record_id": f"r-{i}", "loss_before": 0.01, "loss_after": 1.0 + i} for i in range(3))


UNMET = {"name": "membership_auc", "value": 0.6, "limit": 0.55, "reason": "The run had no steps left (max_steps)."}


def finish(engine: Engine, lease: Lease) -> None:
    uri = f"mem://store/models/digits/v2/{lease.row_id}-1/"
    outcome = Outcome(
        stop_reason="targets_unmet",
        unmet_targets=(UNMET,),
        verdict="passed_with_warnings",
        verdict_reasons=("gap_closed is 0.4.",),
        records=SCORES,
        staged=staged(uri),
    )
    with transaction(engine) as tx:
        finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=uri, max_attempts=3, at=AT)


def test_a_run_is_read_with_progress_and_etag(acme: Web, lease: Lease) -> None:
    report(acme.engine, lease)
    answer = acme.get(f"/v1/runs/{lease.row_id}")
    body = answer.json()
    assert answer.status_code == 200, answer.text
    assert body["progress"] == {"phase": "unlearning", "step": 2, "max_steps": 9, "eta_seconds": 1.0}
    assert (body["model"], body["method"], body["status"]) == ("digits", "hamu-q", "unlearning")
    assert len(body["deletion_request_ids"]) == 1
    assert answer.headers["Retry-After"] == "2"
    again = acme.get(f"/v1/runs/{lease.row_id}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    listed = acme.get("/v1/runs?status=unlearning&model=digits").json()
    assert [run["id"] for run in listed["data"]] == [lease.row_id]
    assert acme.get("/v1/runs?status=queued").json()["data"] == []
    later = (utc_now() + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert acme.get(f"/v1/runs?created_after={later}").json()["data"] == []


def test_steps_come_as_json_or_csv(acme: Web, lease: Lease) -> None:
    report(acme.engine, lease)
    path = f"/v1/runs/{lease.row_id}/steps"
    assert acme.get(path).json() == {"data": ROWS, "attempt": 1}
    assert acme.get(f"{path}?after=1").json()["data"] == ROWS[1:]
    table = acme.get(path, headers={"Accept": "text/csv"})
    assert table.headers["Content-Type"].startswith("text/csv")
    assert table.text.splitlines() == ["step,kappa,branch", "1,0.2,direct", "2,0.1,"]
    assert acme.get(path, headers={"Accept": "image/png"}).status_code == 406


def test_a_run_shows_which_targets_it_missed_and_tells_receivers(acme: Web, lease: Lease) -> None:
    path = f"/v1/runs/{lease.row_id}"
    assert acme.get(path).json()["unmet_targets"] == []
    finish(acme.engine, lease)
    assert acme.get(path).json()["unmet_targets"] == [UNMET]
    with transaction(acme.engine) as tx:
        shown = select(RunEvent.detail).where(RunEvent.run_id == lease.row_id, RunEvent.type == "succeeded")
        ended = tx.scalars(shown).one()
        told = tx.scalars(select(OutboxRow.payload).where(OutboxRow.name == "run.succeeded")).one()
    assert ended["unmet_targets"] == [UNMET]
    assert told["data"]["unmet_targets"] == ["membership_auc"]


def test_a_run_shows_its_verdict_and_the_records_behind_it(acme: Web, lease: Lease) -> None:
    path = f"/v1/runs/{lease.row_id}"
    waiting = acme.get(path).json()
    assert (waiting["verdict"], waiting["verdict_reasons"]) == (None, [])
    assert acme.get(f"{path}/records").json()["data"] == []
    finish(acme.engine, lease)
    judged = acme.get(path).json()
    assert (judged["verdict"], judged["verdict_reasons"]) == ("passed_with_warnings", ["gap_closed is 0.4."])
    first = acme.get(f"{path}/records?limit=2")
    assert [row["record_id"] for row in first.json()["data"]] == ["r-0", "r-1"]
    rest = acme.get(f"{path}/records?limit=2&cursor={first.json()['next_cursor']}").json()
    assert ([row["loss_after"] for row in rest["data"]], rest["has_more"]) == ([3.0], False)
    table = acme.get(f"{path}/records", headers={"Accept": "text/csv"}).text.splitlines()
    assert table == ["record_id,loss_before,loss_after", "r-0,0.01,1.0", "r-1,0.01,2.0", "r-2,0.01,3.0"]


def test_a_plot_is_drawn_from_the_ledger_and_need_not_be_sent_twice(acme: Web, lease: Lease) -> None:
    path = f"/v1/runs/{lease.row_id}/plots/losses.svg"
    early = acme.get(path)
    assert (early.status_code, early.json()["code"]) == (409, "nothing_to_plot")
    steps = [{"step": 1, "forget_loss": 0.1, "forget_loss_after": 0.4, "retain_loss_after": 0.2}]
    with transaction(acme.engine) as tx:
        service.record(tx, lease=lease, latest=Progress("unlearning"), steps=steps, ttl_s=60, at=AT)
    answer = acme.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("image/svg+xml")
    policy = answer.headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"  # its styles, no script
    assert "<svg" in answer.text
    again = acme.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = acme.get(path.replace("losses", "hardness"))
    assert (other.status_code, other.json()["code"]) == (409, "nothing_to_plot")
    unknown = acme.get(path.replace("losses", "nonsense"))
    assert (unknown.status_code, unknown.json()["errors"][0]["parameter"]) == (422, "plot")


def test_runs_of_others_are_not_found(acme: Web, lease: Lease) -> None:
    other = acme.customer("other")
    for path in ("", "/steps", "/records", "/events", "/plots/losses.svg"):
        assert other.get(f"/v1/runs/{lease.row_id}{path}").status_code == 404
    assert other.post(f"/v1/runs/{lease.row_id}/cancel").status_code == 404
    reader = acme.customer("acme", ["runs:read"])
    assert reader.post(f"/v1/runs/{lease.row_id}/cancel").status_code == 403


def test_cancelling_over_http(acme: Web, lease: Lease) -> None:
    answer = acme.post(f"/v1/runs/{lease.row_id}/cancel")
    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    finish(acme.engine, lease)
    assert acme.post(f"/v1/runs/{lease.row_id}/cancel").status_code == 409
    assert acme.get(f"/v1/runs/{lease.row_id}").json()["status"] == "cancelled"


def events_of(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]  # type: ignore[misc]


def test_a_follower_sees_everything_to_the_end_and_can_resume(acme: Web, lease: Lease) -> None:
    report(acme.engine, lease)
    ending = threading.Timer(0.3, finish, (acme.engine, lease))
    ending.start()
    answer = acme.get(f"/v1/runs/{lease.row_id}/events")  # ends by itself when the run does
    ending.join()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    seen = events_of(answer.text)
    assert [one["event"] for one in seen if one["event"] == "step"] == ["step", "step"]
    statuses = [one["data"] for one in seen if one["event"] == "status"]
    assert '"status": "queued"' in statuses[0]
    assert '"status": "succeeded"' in statuses[-1]
    assert any(one["event"] == "progress" for one in seen)
    middle = next(one["id"] for one in seen if one["event"] == "status")
    rest = events_of(acme.get(f"/v1/runs/{lease.row_id}/events", headers={"Last-Event-ID": middle}).text)
    assert [one["event"] for one in rest].count("status") == len(statuses) - 1
    assert "step" not in [one["event"] for one in rest]
    over = acme.get(f"/v1/runs/{lease.row_id}/events", headers={"Last-Event-ID": seen[-1]["id"]})
    assert over.status_code == 204


def test_many_followers_hold_no_connection(acme: Web, lease: Lease) -> None:
    """More followers than the pool has connections, and the service still answers."""

    async def go() -> None:
        transport = httpx.ASGITransport(app=acme.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=dict(acme.headers)) as client:
            path = f"/v1/runs/{lease.row_id}"
            followers = [asyncio.create_task(client.get(f"{path}/events", timeout=60)) for _ in range(40)]
            for _ in range(5):
                assert (await client.get(path, timeout=60)).status_code == 200
            await asyncio.to_thread(finish, acme.engine, lease)
            answers = await asyncio.gather(*followers)
            assert all("succeeded" in answer.text for answer in answers)

    asyncio.run(go())


def test_prefer_wait_holds_the_answer_until_the_run_has_ended(acme: Web, lease: Lease) -> None:
    ending = threading.Timer(0.2, finish, (acme.engine, lease))
    ending.start()
    answer = acme.get(f"/v1/runs/{lease.row_id}", headers={"Prefer": "wait=20"})
    ending.join()
    assert answer.json()["status"] == "succeeded"
    assert "wait" in answer.headers["Preference-Applied"]


def test_a_failed_run_says_why(acme: Web, lease: Lease) -> None:
    error = {"code": "bad_record", "message": "Row 3 cannot be used.", "attempt": 1}
    with transaction(acme.engine) as tx:
        tx.execute(update(Run).values(status="failed", error=error))
    assert acme.get(f"/v1/runs/{lease.row_id}").json()["error"] == {
        "code": "bad_record",
        "message": "Row 3 cannot be used.",
    }
