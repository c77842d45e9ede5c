"""Outbox rows appear with the transaction that wrote them, and two relays never take the same row."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.platform import outbox
from core.platform.clock import utc_now
from core.platform.database import transaction
from tests.builders.webhooks import data_of

pytestmark = pytest.mark.integration


def test_a_rolled_back_transaction_sends_nothing(database: Engine) -> None:
    with pytest.raises(RuntimeError), transaction(database) as tx:  # noqa: PT012
        outbox.put_task(tx, "runs.execute", "run_1")
        tx.flush()
        raise RuntimeError
    with transaction(database) as tx:
        assert outbox.take_unsent(tx, topic="task", limit=10) == []


def test_two_relays_share_the_rows(database: Engine) -> None:
    with transaction(database) as tx:
        for number in range(4):
            outbox.put_task(tx, "runs.execute", f"run_{number}")
            tx.flush()
        outbox.put_event(tx, workspace_id="ws_1", type="run.started", data=data_of("run.started"), at=utc_now())
    with Session(database) as one, Session(database) as other:
        first = outbox.take_unsent(one, topic="task", limit=3)
        second = outbox.take_unsent(other, topic="task", limit=3)
        assert [m.payload["args"] for m in first] == [["run_0"], ["run_1"], ["run_2"]]
        assert [m.payload["args"] for m in second] == [["run_3"]]
        outbox.mark_sent(one, [m.id for m in first])
        one.commit()
    with transaction(database) as tx:
        assert [m.payload["args"] for m in outbox.take_unsent(tx, topic="task", limit=9)] == [["run_3"]]
        assert [m.name for m in outbox.take_unsent(tx, topic="event", limit=9)] == ["run.started"]
