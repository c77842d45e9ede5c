"""Reports on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Self

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.schemas.common import Time, WireOut
from api.schemas.legal_holds import HoldOut
from core.deletions.reports import MOST_OVERDUE, Compliance
from core.deletions.tables import DeletionRequest
from core.erasure.reporting import MOST_COPIES, Copy, Erasure
from core.platform.clock import rfc3339

_GROUP: JsonDict = {
    "requests": 41,
    "outcomes": {
        "pending": 2,
        "in_progress": 1,
        "needs_review": 0,
        "completed": 37,
        "failed": 0,
        "cancelled": 1,
    },
    "on_time": 37,
    "late": 0,
    "extended": 1,
    "times": {
        "confirm": {"count": 41, "median_s": 3600.0, "p95_s": 86400.0},
        "start": {"count": 38, "median_s": 90000.0, "p95_s": 604800.0},
        "complete": {"count": 37, "median_s": 90900.0, "p95_s": 605100.0},
        "purge": {"count": 0, "median_s": None, "p95_s": None},
    },
    "open_by_time_left": {
        "overdue": 0,
        "under_1_day": 0,
        "under_7_days": 1,
        "under_30_days": 2,
        "30_days_or_more": 0,
        "no_deadline": 0,
    },
}
_ERASURE: JsonDict = {
    "counts": {"version": {"kept": 1, "purged": 3}, "dataset_file": {"waiting_for_owner": 1}},
    "copies": [
        {
            "kind": "dataset_file",
            "name": "digits",
            "number": 1,
            "path": "train.parquet",
            "uri": "s3://training/acme/digits/train.parquet",
            "state": "waiting_for_owner",
            "blocked_by": [],
            "superseded_at": "2031-03-01T12:00:00.000Z",
            "keep_until": "2031-03-31T12:00:00.000Z",
            "purged_at": None,
        }
    ],
    "copies_cut_off": False,
    "datasets": [],
    "legal_holds": [],
}
_REPORT: JsonDict = {
    "from": "2031-01-01T00:00:00.000Z",
    "to": "2031-04-01T00:00:00.000Z",
    "generated_at": "2031-04-02T08:00:00.000Z",
    "total": _GROUP,
    "regulations": {"gdpr": _GROUP},
    "overdue": [],
    "overdue_cut_off": False,
    "erasure": _ERASURE,
    "test": False,
}


class LastedOut(WireOut):
    """Seconds from receipt, of the requests that have come so far."""

    count: int
    median_s: float | None
    p95_s: float | None


class GroupOut(WireOut):
    """Requests under one regulation."""

    requests: int
    outcomes: dict[str, int] = Field(description="how many are in which state")
    on_time: int = Field(description="completed by their deadline")
    late: int = Field(description="completed after it")
    extended: int
    times: dict[str, LastedOut] = Field(description="from receipt to `confirm`, `start`, `complete` and `purge`")
    open_by_time_left: dict[str, int] = Field(description="open requests by what is left until their deadline")


class CopyOut(WireOut):
    """A superseded copy that holds, or held, what was erased."""

    kind: str = Field(description="`version` or `dataset_file`")
    name: str = Field(description="of the model or data set")
    number: int = Field(description="the version, or the last edition that the file was part of")
    path: str | None
    uri: str
    state: str = Field(
        description="`kept`, `in_use` (not superseded), `blocked`, `waiting_for_owner`, `deleting`, `purged`"
    )
    blocked_by: list[str]
    superseded_at: Time | None
    keep_until: Time | None
    purged_at: Time | None


class UncleanOut(WireOut):
    """A data set whose present files hold erased records."""

    dataset: str
    records: int
    why: str = Field(description="`waiting`, `needed_by_a_model`, `never`, `legal_hold`, or why rewriting failed")


class ErasureOut(WireOut):
    """What is left of what was erased, as things stand now; copies purged in the period are counted."""

    counts: dict[str, dict[str, int]] = Field(description="copies by kind and state")
    copies: list[CopyOut] = Field(description=f"those not purged; at most {MOST_COPIES:,}, the CSV has all")
    copies_cut_off: bool
    datasets: list[UncleanOut]
    legal_holds: list[HoldOut] = Field(description="in force")

    @classmethod
    def of(cls, found: Erasure) -> Self:
        """From the report."""
        return cls.model_validate(found)


class ComplianceOut(WireOut):
    """How deadlines were kept for the requests received in a period, as they stand now."""

    model_config = ConfigDict(json_schema_extra={"examples": [_REPORT]})

    from_: Time = Field(alias="from")
    to: Time
    generated_at: Time
    total: GroupOut
    regulations: dict[str, GroupOut] = Field(description="by regulation; `none`: under none")
    overdue: list[str] = Field(
        description=f"open requests past their deadline, the longest first; at most {MOST_OVERDUE:,}, the CSV has all"
    )
    overdue_cut_off: bool
    erasure: ErasureOut
    test: bool = Field(description="about requests of test keys, which no model has forgotten")

    @classmethod
    def of(cls, found: Compliance, erasure: Erasure, *, test: bool) -> Self:
        """From the report."""
        period = {"from": found.period.start, "to": found.period.end, "generated_at": found.period.now}
        return cls.model_validate(
            {
                **period,
                "total": found.total,
                "regulations": found.regulations,
                "overdue": found.overdue,
                "overdue_cut_off": found.overdue_cut_off,
                "erasure": ErasureOut.of(erasure),
                "test": test,
            }
        )


COLUMNS: Final = (
    "id",
    "external_id",
    "regulation",
    "reason",
    "status",
    "kept",
    "received_at",
    "confirmed_at",
    "started_at",
    "completed_at",
    "old_copies_purged_at",
    "due_at",
    "extended_at",
    "record_count",
)
"""The columns of the CSV. ``kept``: on_time, late, open, overdue, or empty when nothing was promised."""


COPY_COLUMNS: Final = (
    "kind",
    "name",
    "number",
    "path",
    "uri",
    "state",
    "blocked_by",
    "superseded_at",
    "keep_until",
    "purged_at",
)
"""The columns of the CSV about copies."""


def copy_line(copy: Copy) -> Sequence[Any]:
    """A superseded copy as a line of the CSV."""
    moments = (copy.superseded_at, copy.keep_until, copy.purged_at)
    about = (copy.kind, copy.name, copy.number, copy.path, copy.uri, copy.state, " ".join(copy.blocked_by))
    return (*about, *map(_time, moments))


def line_of(row: DeletionRequest, now: datetime) -> Sequence[Any]:
    """A request as a line of the CSV."""
    completed = row.finished_at if row.status == "completed" else None
    moments = (row.received_at, row.created_at, row.started_at, completed, row.old_copies_purged_at)
    return (
        row.id,
        row.external_id,
        row.regulation,
        row.reason,
        row.status,
        _kept(row, completed, now),
        *map(_time, moments),
        _time(row.due_at),
        _time(row.extended_at),
        row.record_count,
    )


def _kept(row: DeletionRequest, completed: datetime | None, now: datetime) -> str:
    if row.due_at is None or (row.finished_at is not None and completed is None):
        return ""
    if completed is not None:
        return "on_time" if completed <= row.due_at else "late"
    return "overdue" if row.due_at < now else "open"


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
