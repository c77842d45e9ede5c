"""Reports."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import spreadsheets
from api.deps import Database, Db, Now, requires
from api.errors import problems
from api.schemas.common import TimeIn
from api.schemas.reports import COLUMNS, COPY_COLUMNS, ComplianceOut, copy_line, line_of
from core.access.principal import Principal
from core.deletions.reports import Period, Reports
from core.erasure.reporting import Copies
from core.platform.paging import Position

router = APIRouter(prefix="/v1/reports", tags=["reports"])

_CSV: Final = "text/csv"
_YEAR: Final = timedelta(days=365)


@router.get(
    "/compliance",
    response_model=ComplianceOut,
    summary="Report on deadlines kept",
    responses={
        200: {
            "description": "The report, or with `text/csv` a line for each request",
            "content": {_CSV: {"schema": {"type": "string"}, "example": ",".join(COLUMNS) + "\r\n"}},
        },
        **problems(401, 403, 422),
    },
)
async def compliance_report(
    caller: Annotated[Principal, requires("reports:read")],
    database: Db,
    now: Now,
    start: Annotated[TimeIn | None, Query(alias="from", description="unset: 365 days before `to`")] = None,
    end: Annotated[TimeIn | None, Query(alias="to", description="unset: now")] = None,
    format: Annotated[Literal["json", "csv"] | None, Query(description="unset: as `Accept` asks")] = None,
    about: Annotated[Literal["requests", "copies"], Query(description="what a CSV has a line for")] = "requests",
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Any:
    """The requests received from `from` on and before `to`: kept and missed deadlines, times, what is open.

    `erasure` is about what is left of what was erased: superseded versions and files, data sets, legal holds.
    As CSV it has a line for each request, in order of receipt, and is streamed whatever its length; with
    `about=copies` a line for each superseded copy, those purged before the period left out.
    """
    period, is_test = _period(start, end, now), caller.mode == "test"
    if format == "csv" or (format is None and _CSV in accept):
        kind = "compliance" if about == "requests" else "copies"
        kind = f"test-{kind}" if is_test else kind
        name = f'attachment; filename="{kind}-{period.start:%Y%m%d}-{period.end:%Y%m%d}.csv"'
        lines = _lines if about == "requests" else _copy_lines
        return StreamingResponse(
            lines(database, caller.workspace_id, period), headers={"Content-Disposition": name}, media_type=_CSV
        )
    found = await database.run(lambda tx: Reports(tx, caller.workspace_id, period).compliance())
    erasure = await database.run(lambda tx: _copies(tx, caller.workspace_id, period).report())
    return await run_in_threadpool(ComplianceOut.of, found, erasure, test=is_test)


def _copies(tx: Session, workspace_id: str, period: Period) -> Copies:
    return Copies(tx, workspace_id, start=period.start, end=period.end, now=period.now)


def _period(start: datetime | None, end: datetime | None, now: datetime) -> Period:
    last = end or now
    first = start or (last - _YEAR if last.year > 1 else last)
    return Period(first, last, now)


async def _lines(database: Database, workspace_id: str, period: Period) -> AsyncIterator[str]:
    yield spreadsheets.lines([COLUMNS])
    after: Position | None = None
    while rows := await database.run(lambda tx, place=after: Reports(tx, workspace_id, period).lines(place)):
        yield spreadsheets.lines(line_of(row, period.now) for row in rows)
        after = (rows[-1].received_at, rows[-1].id)


async def _copy_lines(database: Database, workspace_id: str, period: Period) -> AsyncIterator[str]:
    yield spreadsheets.lines([COPY_COLUMNS])
    found = await database.run(lambda tx: _copies(tx, workspace_id, period).all())
    yield spreadsheets.lines(copy_line(copy) for copy in found)
