"""Errors of the database quote the rows that they are about; what is logged of them does not."""

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.builders.logs import configured

pytestmark = pytest.mark.integration
ADA = "ada@example.org"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("insert into workspaces (id, name) values (:ada, 'a'), (:ada, 'b')", "23505, pk_workspaces"),
        ("select cast(:ada as integer)", "22P02"),
        ("insert into api_keys (id) values (:ada)", "23502, api_keys"),
    ],
)
def test_no_value_of_a_row_is_logged(
    tx: Session, capsys: pytest.CaptureFixture[str], statement: str, state: str, as_json: bool
) -> None:
    try:
        tx.execute(text(statement), {"ada": ADA})
    except Exception as error:
        try:
            raise RuntimeError("the turn failed") from error
        except RuntimeError as wrapped:
            with configured(as_json=as_json):
                structlog.get_logger().error("loop_turn_failed", exc_info=wrapped)
    told = capsys.readouterr().err
    assert ADA not in told
    assert "loop_turn_failed" in told
    assert state in told
    assert "the turn failed" in told
    assert "test_logs_without_values.py" in told
