"""The compliance report counts what happened, by hand-made requests."""

import csv
import io
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from core.access.service import workspace_named
from core.deletions import reports
from core.deletions.tables import DeletionRequest
from core.platform.database import transaction
from tests.builders.estate import AT
from tests.builders.web import Clock, Web, web

pytestmark = pytest.mark.integration

PATH = "/v1/reports/compliance"
DAY = timedelta(days=1)
NOW = AT + 60 * DAY


def request(workspace_id: str, number: int, status: str, regulation: str | None, **moments: Any) -> DeletionRequest:
    """Received ``number`` days after ``AT``; ``moments`` are days after that."""
    received = AT + number * DAY
    at = {name: received + days * DAY for name, days in moments.items() if name.endswith("_at")}
    return DeletionRequest(
        id=f"del_{number:02d}",
        workspace_id=workspace_id,
        status=status,
        status_detail="",
        reason="=1+1",
        external_id=f"@{number}",
        metadata_={},
        record_count=1,
        already_erased=0,
        regulation=regulation,
        received_at=received,
        **{"created_at": received, **at},
    )


@pytest.fixture
def acme(database: Engine) -> Web:
    caller = web(database, Clock(NOW)).customer("acme")
    with transaction(database) as tx:
        ws = workspace_named(tx, "acme").id
        tx.add_all(
            [
                request(ws, 0, "completed", "gdpr", due_at=31, started_at=1, finished_at=10, old_copies_purged_at=40),
                request(ws, 1, "completed", "gdpr", due_at=31, started_at=3, finished_at=20),
                request(ws, 2, "completed", "gdpr", due_at=31, started_at=5, finished_at=33, created_at=2),
                request(ws, 3, "in_progress", "gdpr", due_at=31, started_at=4),  # overdue
                request(ws, 4, "pending", "ccpa", due_at=62, extended_at=4),  # six days left
                request(ws, 5, "failed", "ccpa", due_at=45, finished_at=1),
                request(ws, 6, "pending", None),
                request(ws, 7, "cancelled", None, finished_at=1),
            ]
        )
    return caller


def read(acme: Web, **params: Any) -> dict[str, Any]:
    answer = acme.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_outcomes_and_deadlines_are_counted_by_regulation(acme: Web) -> None:
    report = read(acme)
    assert report["to"] == report["generated_at"] == "2025-04-30T11:12:40.120Z"
    assert list(report["regulations"]) == ["none", "ccpa", "gdpr"]
    gdpr = report["regulations"]["gdpr"]
    assert (gdpr["requests"], gdpr["on_time"], gdpr["late"]) == (4, 2, 1)
    assert {name: n for name, n in gdpr["outcomes"].items() if n} == {"completed": 3, "in_progress": 1}
    total = report["total"]
    assert (total["requests"], total["on_time"], total["late"], total["extended"]) == (8, 2, 1, 1)
    assert {name: n for name, n in total["open_by_time_left"].items() if n} == {
        "overdue": 1,
        "under_7_days": 1,
        "no_deadline": 1,
    }
    assert (report["overdue"], report["overdue_cut_off"]) == (["del_03"], False)


def test_times_run_from_receipt(acme: Web) -> None:
    times = read(acme)["regulations"]["gdpr"]["times"]
    day = 86_400.0
    assert times["complete"] == {"count": 3, "median_s": 20 * day, "p95_s": pytest.approx(31.7 * day)}
    assert times["start"] == {"count": 4, "median_s": 3.5 * day, "p95_s": pytest.approx(4.85 * day)}
    assert times["purge"] == {"count": 1, "median_s": 40 * day, "p95_s": 40 * day}
    assert times["confirm"]["p95_s"] == pytest.approx(1.7 * day)
    assert read(acme)["regulations"]["none"]["times"]["start"] == {"count": 0, "median_s": None, "p95_s": None}


def test_the_period_is_of_receipt_with_its_end_left_out(acme: Web) -> None:
    def asked(first: datetime, last: datetime) -> int:
        return read(acme, **{"from": first.isoformat(), "to": last.isoformat()})["total"]["requests"]

    assert asked(AT, AT + 2 * DAY) == 2
    assert asked(AT - 2 * DAY, AT) == 0
    empty = acme.get(PATH, params={"from": AT.isoformat(), "to": AT.isoformat()})
    assert (empty.status_code, empty.json()["code"]) == (422, "bad_period")


@pytest.mark.parametrize("ask", [{"params": {"format": "csv"}}, {"headers": {"Accept": "text/csv"}}])
def test_the_csv_has_a_line_for_each_request_and_no_formula(
    acme: Web, ask: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_LINES_AT_ONCE", 3)
    answer = acme.get(PATH, **ask)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["id"] for row in rows] == [f"del_{number:02d}" for number in range(8)]
    assert [row["kept"] for row in rows] == ["on_time", "on_time", "late", "overdue", "open", "", "", ""]
    assert {row["reason"] for row in rows} == {"'=1+1"}
    assert rows[3]["external_id"] == "'@3"
    assert rows[0]["old_copies_purged_at"] == "2025-04-10T11:12:40.120Z"


def test_a_long_list_of_overdue_requests_is_cut_off(acme: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_OVERDUE", 0)
    assert (read(acme)["overdue"], read(acme)["overdue_cut_off"]) == ([], True)


def test_workspaces_and_scopes_are_kept_apart(acme: Web) -> None:
    other = acme.customer("other", scopes=["reports:read"])
    assert read(other)["total"]["requests"] == 0
    assert read(other)["regulations"] == {}
    assert acme.customer("acme", scopes=["deletions:read"]).get(PATH).status_code == 403
