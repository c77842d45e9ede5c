"""The planner gathers requests by window, size, floor and deadline, and says why one waits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.schemas.deletion_requests import detail_of
from core.deletions import service as deletions
from core.deletions.tables import DeletionRequest
from core.policies import service as policies
from core.runs import finishing, service
from core.runs.tables import Run
from core.unlearning.job import Outcome
from tests.builders.estate import Estate, estate, staged

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)


def gathering(tx: Session, **body: Any) -> Estate:
    """A workspace whose own default policy says ``body``."""
    built = estate(tx)
    policies.put(tx, workspace_id=built.workspace_id, name="default", body=body, actor="k", at=datetime.now(UTC))
    return built


def plan(tx: Session) -> Run | None:
    made = service.plan_next(tx, at=datetime.now(UTC))
    return None if made is None or made.run_id is None else tx.get_one(Run, made.run_id)


def ask(tx: Session, built: Estate, *record_ids: str, **fields: Any) -> str:
    return built.submit(tx, *record_ids, **{"at": datetime.now(UTC), **fields}).request.id


def detail(tx: Session, built: Estate, request_id: str) -> str:
    tx.expire_all()
    return detail_of(deletions.get(tx, workspace_id=built.workspace_id, request_id=request_id), datetime.now(UTC))


def test_the_floor_counts_people_and_not_requests(tx: Session) -> None:
    built = gathering(tx, min_subjects=2)
    first = ask(tx, built, "r-0")  # writer-0
    ask(tx, built, "r-2")  # writer-0 again
    assert plan(tx) is None
    assert detail(tx, built, first) == "waiting_for_subjects"
    ask(tx, built, "r-1")  # writer-1
    run = plan(tx)
    assert run is not None
    assert run.forget_records == 3
    assert detail(tx, built, first) == "running"


def test_a_deadline_goes_before_the_floor(tx: Session) -> None:
    built = gathering(tx, min_subjects=2, force_before_due_s=5 * 86_400)
    ask(tx, built, "r-0", due_at=datetime.now(UTC) + 6 * DAY)
    assert plan(tx) is None
    ask(tx, built, "r-2", due_at=datetime.now(UTC) + 4 * DAY)
    assert plan(tx) is not None


def test_a_full_batch_does_not_wait_for_the_window(tx: Session) -> None:
    built = gathering(tx, batch_window_s=86_400, batch_size=2)
    first = ask(tx, built, "r-0")
    assert plan(tx) is None
    assert detail(tx, built, first) == "waiting_for_batch"
    ask(tx, built, "r-1")
    assert plan(tx) is not None


def test_what_another_run_has_unlearned_meanwhile_ends_below_the_floor_without_a_run(tx: Session) -> None:
    built = gathering(tx, min_subjects=2)
    ask(tx, built, "r-0", "r-1")
    policies.put(
        tx, workspace_id=built.workspace_id, name="other", body={"min_subjects": 2}, actor="k", at=datetime.now(UTC)
    )
    late = ask(tx, built, "r-0", policy="other")
    run = plan(tx)
    assert run is not None
    lease = service.claim(tx, run_id=run.id, owner="w", ttl_s=60, at=datetime.now(UTC))
    assert lease is not None
    uri = f"file:///objects/{run.id}/"
    outcome = Outcome(stop_reason="target_reached", verdict="passed", staged=staged(uri))
    finishing.finish(tx, lease=lease, outcome=outcome, publish_uri=uri, max_attempts=1, at=datetime.now(UTC))
    assert plan(tx) is None
    assert detail(tx, built, late) == "done"


def test_the_first_deadline_is_planned_and_claimed_first(tx: Session) -> None:
    built = estate(tx, models=("a", "b", "c", "d"))
    now = datetime.now(UTC)
    for model, due in (("a", None), ("b", now + 20 * DAY), ("c", now + 10 * DAY), ("d", now + 40 * DAY)):
        ask(tx, built, "r-0", model=model, due_at=due)
    names = {model_id: name for name, model_id in built.models.items()}
    planned = [plan(tx) for _ in range(4)]
    assert [names[run.model_id] for run in planned if run] == ["c", "b", "a", "d"]
    claimed = [service.claim(tx, run_id=None, owner="w", ttl_s=60, at=now) for _ in range(4)]
    assert [names[tx.get_one(Run, lease.row_id).model_id] for lease in claimed if lease] == ["c", "b", "a", "d"]


def test_a_cancelled_request_no_longer_counts_towards_the_floor(tx: Session) -> None:
    built = gathering(tx, min_subjects=2)
    ask(tx, built, "r-0")
    gone = ask(tx, built, "r-1")
    deletions.cancel(tx, workspace_id=built.workspace_id, request_id=gone, actor="k", at=datetime.now(UTC))
    assert plan(tx) is None
    assert len(tx.scalars(select(DeletionRequest).where(DeletionRequest.status == "pending")).all()) == 1
