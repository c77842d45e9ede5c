"""The span in which a request was accepted is kept with it and found by the run that serves it."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy.orm import Session

from core.platform.tracing import traceparent
from core.runs import planning
from core.runs.repository import Runs
from core.runs.tables import Run
from tests.builders.estate import AT, estate

pytestmark = pytest.mark.integration


def test_a_run_finds_the_traces_of_its_requests(tx: Session) -> None:
    place = estate(tx)
    place.submit(tx, "r-0")  # not traced
    with TracerProvider().get_tracer("test").start_as_current_span("request"):
        place.submit(tx, "r-1")
        expected = traceparent()
    assert planning.plan_next(tx, at=AT)
    run = tx.query(Run).filter_by(workspace_id=place.workspace_id).one()
    assert Runs(tx).traceparents(run.id) == [expected]
