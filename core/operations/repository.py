"""All SQL about the state of the whole service: counts and ages over every workspace, for operators only."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Float, Select, and_, case, cast, func, literal, select, text, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.access.sandboxes import in_sandbox
from core.deletions.lifecycle import OPEN
from core.deletions.tables import DeletionRequest
from core.opendsr.tables import OpenDsrEvent
from core.platform.outbox import OutboxRow
from core.runs.lifecycle import ACTIVE, LEASED, Status
from core.runs.tables import Run
from core.webhooks.tables import WebhookDelivery, WebhookEndpoint

_PATIENCE_MS: Final = 2000
_LIVE_RUN: Final = ~in_sandbox(Run.workspace_id)
_LIVE_REQUEST: Final = ~in_sandbox(DeletionRequest.workspace_id)
"""Test mode moves clocks, lets leases run out and deadlines pass: that is nothing for an operator."""


class StateOfWork:
    """Each method is one query over indexed rows that are not final; none reads what has ended."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``, each for two seconds at most: a scrape must not weigh on a busy database."""
        self._tx = tx
        tx.execute(text(f"set local statement_timeout = {_PATIENCE_MS}"))

    def runs(self) -> Mapping[tuple[str, str], int]:
        """Runs that have not ended, by mode and status."""
        open_ones = and_(Run.status.in_((*ACTIVE, Status.NEEDS_REVIEW)), _LIVE_RUN)
        rows = self._tx.execute(
            select(Run.mode, Run.status, func.count()).where(open_ones).group_by(Run.mode, Run.status)
        )
        return {(mode, status): count for mode, status, count in rows}

    def leases_run_out(self) -> int:
        """Runs whose worker has not been heard of for as long as its lease, and which nobody has taken back yet."""
        late = Run.status.in_(LEASED) & (Run.lease_until < func.now()) & _LIVE_RUN
        return self._tx.execute(select(func.count()).select_from(Run).where(late)).scalar_one()

    def requests(self) -> Mapping[str, int]:
        """Deletion requests that have not ended, by status."""
        return self._by(DeletionRequest.status, DeletionRequest.status.in_(OPEN) & _LIVE_REQUEST)

    def deadlines(self, within: Sequence[timedelta]) -> tuple[int, ...]:
        """How many open requests are overdue, and how many more are due within each of these times (ascending)."""
        ends = [func.now(), *(func.now() + span for span in within)]
        kinds = [(DeletionRequest.due_at <= end, index) for index, end in enumerate(ends)]
        kind = case(*kinds, else_=-1)
        rows = self._tx.execute(
            select(kind, func.count())
            .where(DeletionRequest.status.in_(OPEN), DeletionRequest.due_at.is_not(None), _LIVE_REQUEST)
            .group_by(text("1"))
        )
        counts: dict[int, int] = dict(rows.all())
        return tuple(counts.get(index, 0) for index in range(len(ends)))

    def deliveries(self) -> Mapping[str, int]:
        """Webhook deliveries on their way: ``waiting`` for their first attempt, or ``failing`` since."""
        state = case((WebhookDelivery.attempts > 0, "failing"), else_="waiting")
        rows = self._tx.execute(
            select(state, func.count()).where(WebhookDelivery.status == "pending").group_by(text("1"))
        )
        return dict(rows.all())

    def endpoints_disabled(self) -> int:
        """Webhook endpoints that are there and are sent nothing."""
        off = WebhookEndpoint.enabled.is_(False) & WebhookEndpoint.deleted_at.is_(None)
        return self._tx.execute(select(func.count()).select_from(WebhookEndpoint).where(off)).scalar_one()

    def oldest(self) -> Mapping[str, float]:
        """Seconds for which the first of each queue has waited past its time; 0 for an empty one."""
        rows = self._tx.execute(union_all(*_AGES))
        return {str(row[0]): max(0.0, float(row[1])) for row in rows}

    def _by(self, column: InstrumentedAttribute[str], which: ColumnElement[bool]) -> Mapping[str, int]:
        rows = self._tx.execute(select(column, func.count()).where(which).group_by(column))
        return dict(rows.all())


def _age(name: str, since: InstrumentedAttribute[Any], which: ColumnElement[bool]) -> Select[str, float]:
    seconds = cast(func.extract("epoch", func.now() - func.min(since)), Float)
    return select(literal(name), func.coalesce(seconds, 0.0)).where(which)


_AGES: Final = (
    _age("runs", Run.created_at, and_(Run.status == Status.QUEUED, _LIVE_RUN)),
    _age("outbox_tasks", OutboxRow.created_at, and_(OutboxRow.sent_at.is_(None), OutboxRow.topic == "task")),
    _age("outbox_events", OutboxRow.created_at, and_(OutboxRow.sent_at.is_(None), OutboxRow.topic == "event")),
    _age("webhooks", WebhookDelivery.next_attempt_at, WebhookDelivery.status == "pending"),
    _age("opendsr_callbacks", OpenDsrEvent.next_attempt_at, OpenDsrEvent.status == "pending"),
)
