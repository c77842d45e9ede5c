"""Claiming stays on its index however many deliveries wait for other endpoints."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from core.platform.database import transaction
from core.webhooks.claiming import Room
from core.webhooks.deliveries import Deliveries
from tests.builders.estate import AT, estate
from tests.builders.plans import nodes, plans

pytestmark = pytest.mark.integration

_ENDPOINTS = {"busy": 10_000, "quiet": 3}


@pytest.fixture
def crowded(database: Engine) -> Engine:
    """Ten thousand deliveries that wait for one endpoint, whose last attempt failed, and three for a healthy one."""
    with transaction(database) as tx:
        workspace_id = estate(tx).workspace_id
        for name, count in _ENDPOINTS.items():
            place = {"ws": workspace_id, "name": name, "count": count, "healthy": name == "quiet", "at": AT}
            tx.execute(
                text(
                    "insert into webhook_endpoints (id, workspace_id, url, events, sealed_secret, healthy)"
                    " values (:name, :ws, 'https://nowhere.example/', '[]', '', :healthy)"
                ),
                place,
            )
            tx.execute(
                text(
                    "insert into webhook_messages (id, workspace_id, type, resource, body)"
                    " select :name || i, :ws, 'run.failed', 'run_' || i, '' from generate_series(1, :count) i"
                ),
                place,
            )
            tx.execute(
                text(
                    "insert into webhook_deliveries (message_id, endpoint_id, resource, position, next_attempt_at)"
                    " select m.id, e.id, resource, position, :at from webhook_messages m"
                    " join webhook_endpoints e on e.id = :name and starts_with(m.id, e.id)"
                ),
                place,
            )
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("analyze"))
    return database


@pytest.mark.parametrize(("suspects", "taken"), [(False, 3), (True, 1)])
def test_claiming_reads_no_delivery_that_it_does_not_take(crowded: Engine, suspects: bool, taken: int) -> None:
    room = Room(limit=16, each=1 if suspects else 8, suspects=suspects, flying={"other": 1})
    claimed: list[str] = []

    def claim(deliveries: Deliveries) -> None:
        claimed.extend(due.message_id for due in deliveries.claim(room, at=AT, until=AT + timedelta(minutes=1)))

    found = plans(crowded, lambda tx: claim(Deliveries(tx)))
    assert len(claimed) == taken
    (choosing, *_) = found
    scans = [node for node in nodes(choosing) if node.get("Relation Name") == "webhook_deliveries"]
    assert "ix_webhook_deliveries_pending" in {node.get("Index Name") for node in scans}
    assert "Seq Scan" not in {node["Node Type"] for node in scans}
