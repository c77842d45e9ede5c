"""What operators are told about work: what has not ended is counted, the first of each queue has an age."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import Session

from core.deletions.tables import DeletionRequest
from core.operations.service import survey
from core.platform.database import database_now, open_engine, transaction
from core.platform.outbox import OutboxRow
from core.runs import planning
from core.runs.tables import Run
from tests.builders.estate import estate
from tests.builders.web import web

pytestmark = pytest.mark.integration


def test_open_requests_are_counted_by_what_time_is_left(tx: Session) -> None:
    before = survey(tx)
    place, now = estate(tx), database_now(tx)
    for record, left in (("r-0", -1), ("r-1", 20), ("r-2", 24 * 6), ("r-3", 24 * 20)):
        place.submit(tx, record, at=now, due_at=now + timedelta(days=40))
        latest = (
            tx.query(DeletionRequest).filter_by(workspace_id=place.workspace_id).order_by(DeletionRequest.id.desc())
        )
        tx.execute(
            update(DeletionRequest)
            .where(DeletionRequest.id == latest.limit(1).one().id)
            .values(due_at=now + timedelta(hours=left))
        )
    found = survey(tx)
    assert {name: found.deadlines[name] - before.deadlines[name] for name in found.deadlines} == {
        "overdue": 1,
        "day": 1,
        "week": 1,
    }
    assert found.requests["pending"] - before.requests.get("pending", 0) == 4
    tx.execute(update(DeletionRequest).values(status="completed"))
    assert survey(tx).requests == {}
    assert set(survey(tx).deadlines.values()) == {0}


def test_queued_runs_age_and_lost_leases_show(tx: Session) -> None:
    place, now = estate(tx), database_now(tx)
    place.submit(tx, "r-0", at=now)
    assert planning.plan_next(tx, at=now)
    tx.execute(update(Run).values(created_at=now - timedelta(minutes=7)))
    found = survey(tx)
    assert found.runs == {("unlearn", "queued"): 1}
    assert found.oldest["runs"] == pytest.approx(420, abs=1)
    tx.execute(update(Run).values(status="unlearning", lease_until=now - timedelta(seconds=1)))
    found = survey(tx)
    assert (found.runs, found.leases_run_out) == ({("unlearn", "unlearning"): 1}, 1)
    assert found.oldest["runs"] == 0


def test_an_unsent_event_is_as_old_as_it_is(tx: Session) -> None:
    tx.execute(update(OutboxRow).values(sent_at=database_now(tx)))
    hour_ago = database_now(tx) - timedelta(hours=1)
    tx.add(OutboxRow(topic="event", name="ping", workspace_id=None, payload={"data": {}}, created_at=hour_ago))
    tx.flush()
    oldest = survey(tx).oldest
    assert oldest["outbox_events"] == pytest.approx(3600, abs=1)
    assert oldest["outbox_tasks"] == 0


def test_the_metrics_page_has_every_series_also_when_nothing_is_there(emptied: Engine) -> None:
    page = web(emptied).get("/metrics").text
    assert "unlearn_survey_up 1.0" in page
    assert 'unlearn_runs{mode="unlearn",status="needs_review"} 0.0' in page
    assert 'unlearn_deadlines{due="overdue"} 0.0' in page
    with transaction(emptied) as tx:
        place = estate(tx)
        place.submit(tx, "r-0")
    assert 'unlearn_deletion_requests{status="pending"} 1.0' in web(emptied).get("/metrics").text


def test_without_a_database_the_page_says_so_and_still_counts_requests() -> None:
    site = web(open_engine("postgresql://nobody@127.0.0.1:1/none"))
    site.get("/healthz")
    page = site.get("/metrics")
    assert page.status_code == 200
    assert "unlearn_survey_up 0.0" in page.text
    assert re.search(r'unlearn_http_requests_total\{method="GET",route="/healthz",status="200"\} 1\.0', page.text)
    assert "unlearn_runs" not in page.text


def test_a_survey_never_reads_what_has_ended(tx: Session) -> None:
    """With many finished rows the indexes of open ones are used."""
    tx.execute(text("set local enable_seqscan = off"))
    for table, index in (("deletion_requests", "ix_deletion_requests_open"), ("runs", "ix_runs_open")):
        states = "('pending', 'in_progress', 'needs_review')" if table == "deletion_requests" else "('queued')"
        plan = tx.execute(text(f"explain select count(*) from {table} where status in {states}")).scalars().all()  # noqa: S608
        assert any(index in line or "ix_runs_queued" in line for line in plan), plan
