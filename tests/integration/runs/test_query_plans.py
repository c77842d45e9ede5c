"""The queries that every worker and loop asks again and again stay on their indexes with many rows about."""

from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from core.platform.database import transaction
from core.platform.outbox import take_unsent
from core.runs.repository import Runs
from tests.builders.estate import AT, Estate, estate
from tests.builders.plans import nodes, plans

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


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda runs: runs.next_queued(None), "ix_runs_queued"),
        (lambda runs: runs.any_queued(), "ix_runs_queued"),
        (lambda runs: runs.next_expired(), "ix_runs_leased"),
    ],
)
def test_the_claim_and_the_reaper_use_their_partial_indexes(crowded: Engine, ask: Any, index: str) -> None:
    (plan,) = plans(crowded, lambda tx: ask(Runs(tx)))
    scans = [node for node in nodes(plan) if node.get("Relation Name") == "runs"]
    assert [node.get("Index Name") for node in scans] == [index]


def test_planning_looks_at_no_ended_target_or_run(crowded: Engine) -> None:
    (plan,) = plans(crowded, lambda tx: Runs(tx).waiting(limit=1000))
    used = {node.get("Index Name") for node in nodes(plan)}
    assert {"ix_deletion_targets_pending", "uq_runs_one_active_per_live_model"} <= used
    read_whole = {node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
    assert read_whole.isdisjoint({"deletion_targets", "runs"})


@pytest.mark.parametrize("topic", ["event", "task"])
def test_the_relay_reads_no_row_that_was_sent(crowded: Engine, topic: Any) -> None:
    found = plans(crowded, lambda tx: take_unsent(tx, topic=topic, limit=100))
    scans = [node for plan in found for node in nodes(plan) if node.get("Relation Name") == "outbox"]
    assert [node.get("Index Name") for node in scans] == ["ix_outbox_unsent"]
