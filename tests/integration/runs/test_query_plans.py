"""The queries that every worker and loop asks again and again stay on their indexes with many rows about."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from core.platform.database import transaction
from core.platform.outbox import take_unsent
from core.runs.repository import Runs
from tests.builders.estate import AT, Estate, estate

pytestmark = pytest.mark.integration


@pytest.fixture
def crowded(database: Engine) -> Engine:
    """Tens of thousands of ended runs and requests, and ten thousand open requests on one model."""
    with transaction(database) as tx:
        built = estate(tx)
        _fill(tx, built)
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("analyze"))
    return database


def _fill(tx: Session, built: Estate) -> None:
    place = {"ws": built.workspace_id, "model": built.models["digits"], "at": AT}
    tx.execute(
        text(
            "insert into runs (id, workspace_id, model_id, status, base_version, policy_name, policy, parameters,"
            " forget_records, retain_records, created_at)"
            " select 'run_' || i, :ws, :model, 'succeeded', 1, 'default', '{}', '{}', 1, 1, :at"
            " from generate_series(1, 20000) i"
        ),
        place,
    )
    for status, first, last in (("completed", 1, 60_000), ("pending", 60_001, 70_000)):
        numbers = {**place, "status": status, "first": first, "last": last}
        tx.execute(
            text(
                "insert into deletion_requests (id, workspace_id, status, status_detail, reason, metadata,"
                " record_count, already_erased) select 'del_' || i, :ws, :status, '', '', '{}', 1, 0"
                " from generate_series(cast(:first as int), cast(:last as int)) i"
            ),
            numbers,
        )
        tx.execute(
            text(
                "insert into deletion_targets (request_id, model_id, status) select 'del_' || i, :model, :status"
                " from generate_series(cast(:first as int), cast(:last as int)) i"
            ),
            numbers,
        )

    tx.execute(
        text(
            "insert into outbox (topic, name, workspace_id, payload, sent_at)"
            " select 'event', 'deletion_request.created', :ws, '{}', case when i <= 20000 then now() end"
            " from generate_series(1, 30000) i"
        ),
        place,
    )


def plans(engine: Engine, ask: Any, *, of: Any = Runs) -> list[dict[str, Any]]:
    """The plans of all queries that ``ask`` makes, of the repository or transaction ``of``."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    with transaction(engine) as tx:
        ask(of(tx))
    event.remove(engine, "before_cursor_execute", note)
    found: list[dict[str, Any]] = []
    with engine.connect() as connection:
        for statement, parameters in asked:
            row = connection.exec_driver_sql(f"explain (format json) {statement}", parameters).scalar_one()
            found.append((json.loads(row) if isinstance(row, str) else row)[0]["Plan"])
    return found


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda runs: runs.next_queued(None), "ix_runs_queued"),
        (lambda runs: runs.any_queued(), "ix_runs_queued"),
        (lambda runs: runs.next_expired(), "ix_runs_leased"),
    ],
)
def test_the_claim_and_the_reaper_use_their_partial_indexes(crowded: Engine, ask: Any, index: str) -> None:
    (plan,) = plans(crowded, ask)
    scans = [node for node in nodes(plan) if node.get("Relation Name") == "runs"]
    assert [node.get("Index Name") for node in scans] == [index]


def test_planning_looks_at_no_ended_target_or_run(crowded: Engine) -> None:
    (plan,) = plans(crowded, lambda runs: runs.waiting(limit=1000))
    used = {node.get("Index Name") for node in nodes(plan)}
    assert {"ix_deletion_targets_pending", "uq_runs_one_active_per_live_model"} <= used
    read_whole = {node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
    assert read_whole.isdisjoint({"deletion_targets", "runs"})


@pytest.mark.parametrize("topic", ["event", "task"])
def test_the_relay_reads_no_row_that_was_sent(crowded: Engine, topic: Any) -> None:
    found = plans(crowded, lambda tx: take_unsent(tx, topic=topic, limit=100), of=lambda tx: tx)
    scans = [node for plan in found for node in nodes(plan) if node.get("Relation Name") == "outbox"]
    assert [node.get("Index Name") for node in scans] == ["ix_outbox_unsent"]
