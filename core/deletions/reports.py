"""How a workspace keeps its deadlines: all SQL of the compliance report, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.deletions.lifecycle import OPEN, Status
from core.deletions.tables import DeletionRequest
from core.platform.errors import InvalidInput, Problem
from core.platform.paging import Position

MOST_OVERDUE: Final = 1000
"""So many ids of overdue requests are listed; the lines have them all."""
_LINES_AT_ONCE: Final = 1000
_R = DeletionRequest

STAGES: Final[Mapping[str, Any]] = {
    "confirm": _R.created_at,
    "start": _R.started_at,
    "complete": _R.finished_at,
    "purge": _R.old_copies_purged_at,
}
"""What is measured from receipt, and up to which moment."""
_LEFT: Final = (
    ("overdue", None, timedelta()),
    ("under_1_day", timedelta(), timedelta(days=1)),
    ("under_7_days", timedelta(days=1), timedelta(days=7)),
    ("under_30_days", timedelta(days=7), timedelta(days=30)),
    ("30_days_or_more", timedelta(days=30), None),
)


class BadPeriod(InvalidInput):
    """``from`` is not before ``to``."""

    code = "bad_period"

    def __init__(self) -> None:
        super().__init__("The period is empty: `from` must be before `to`.", [Problem("", "bad_period", "See `from`.")])


@dataclass(frozen=True, slots=True)
class Period:
    """Requests received at ``start`` or later and before ``end``, as they stand at ``now``."""

    start: datetime
    end: datetime
    now: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise BadPeriod


@dataclass(frozen=True, slots=True)
class Lasted:
    """Seconds from receipt of those requests that have come so far; no quantiles without any."""

    count: int
    median_s: float | None
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The requests under one regulation. ``on_time`` and ``late`` are of those completed that had a deadline."""

    requests: int
    outcomes: Mapping[str, int]
    on_time: int
    late: int
    extended: int
    times: Mapping[str, Lasted]
    open_by_time_left: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Compliance:
    """The report. ``regulations`` has the key ``none`` for requests under none; ``overdue`` is cut off when long."""

    period: Period
    total: Group
    regulations: Mapping[str, Group]
    overdue: Sequence[str]
    overdue_cut_off: bool


class Reports:
    """Questions about one workspace's requests in one period."""

    def __init__(self, tx: Session, workspace_id: str, period: Period) -> None:
        self._tx = tx
        self._period = period
        self._asked = and_(_R.workspace_id == workspace_id, _R.received_at >= period.start, _R.received_at < period.end)
        self._late_now = and_(_R.status.in_(OPEN), _R.due_at < period.now)

    def compliance(self) -> Compliance:
        """The whole report, in two statements whatever the number of requests."""
        groups = self._groups()
        overdue = self._tx.scalars(
            select(_R.id).where(self._asked, self._late_now).order_by(_R.due_at, _R.id).limit(MOST_OVERDUE + 1)
        ).all()
        total = groups.pop(None)
        named = {name or "none": group for name, group in sorted(groups.items(), key=str)}
        return Compliance(self._period, total, named, overdue[:MOST_OVERDUE], len(overdue) > MOST_OVERDUE)

    def lines(self, after: Position | None) -> Sequence[DeletionRequest]:
        """The next thousand requests of the period behind ``after``, in order of receipt; none at the end."""
        place = tuple_(_R.received_at, _R.id)
        statement = select(_R).where(self._asked).order_by(_R.received_at, _R.id).limit(_LINES_AT_ONCE)
        return self._tx.scalars(statement if after is None else statement.where(place > after)).all()

    def _groups(self) -> dict[str | None, Group]:
        """By regulation; the empty string: under none; None: all together."""
        columns = self._columns()
        statement = (
            select(_R.regulation, func.grouping(_R.regulation), *columns.values())
            .where(self._asked)
            .group_by(func.grouping_sets(tuple_(_R.regulation), tuple_()))
        )
        return {
            None if everything else name or "": _group(dict(zip(columns, values, strict=True)))
            for name, everything, *values in self._tx.execute(statement)
        }

    def _columns(self) -> dict[str, Any]:
        count, done = func.count(), _R.status == Status.COMPLETED
        columns: dict[str, Any] = {
            "requests": count,
            "on_time": count.filter(done, _R.finished_at <= _R.due_at),
            "late": count.filter(done, _R.finished_at > _R.due_at),
            "extended": count.filter(_R.extended_at.is_not(None)),
        }
        columns |= {f"status {status}": count.filter(_R.status == status) for status in Status}
        columns |= {f"left {name}": count.filter(self._left(low, high)) for name, low, high in _LEFT}
        columns["left no_deadline"] = count.filter(_R.status.in_(OPEN), _R.due_at.is_(None))
        for stage, moment in STAGES.items():
            counted = done if stage == "complete" else moment.is_not(None)
            seconds = func.extract("epoch", moment - _R.received_at)
            columns[f"count {stage}"] = count.filter(counted, moment.is_not(None))
            for share in (0.5, 0.95):
                quantile = func.percentile_cont(share).within_group(seconds)
                columns[f"{share} {stage}"] = quantile.filter(counted, moment.is_not(None))
        return columns

    def _left(self, low: timedelta | None, high: timedelta | None) -> Any:
        due: InstrumentedAttribute[datetime | None] = _R.due_at
        bounds: list[ColumnElement[bool]] = [_R.status.in_(OPEN)]
        if low is not None:
            bounds.append(due >= self._period.now + low)
        if high is not None:
            bounds.append(due < self._period.now + high)
        return and_(*bounds)


def _group(row: Mapping[str, Any]) -> Group:
    def part(name: str) -> dict[str, int]:
        return {key.removeprefix(f"{name} "): value for key, value in row.items() if key.startswith(f"{name} ")}

    return Group(
        requests=row["requests"],
        outcomes=part("status"),
        on_time=row["on_time"],
        late=row["late"],
        extended=row["extended"],
        times={stage: Lasted(row[f"count {stage}"], row[f"0.5 {stage}"], row[f"0.95 {stage}"]) for stage in STAGES},
        open_by_time_left=part("left"),
    )
