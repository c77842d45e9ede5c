"""What the child reports, on its way to the database: batched, fenced, and patient with outages."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from core.platform.clock import Clock
from core.platform.database import transaction
from core.platform.leases import Lease, LeaseLost
from core.platform.settings import WorkerSettings
from core.runs import service
from core.unlearning.job import Progress

log = structlog.get_logger()

_WRITE_EVERY_S = 0.5


class Reporting:
    """Keeps a lease alive and writes reports under it, at most about twice a second."""

    def __init__(
        self,
        engine: Engine,
        lease: Lease,
        settings: WorkerSettings,
        clock: Clock,
        heard: Callable[[Progress], None] = lambda _report: None,
    ) -> None:
        """The lease must have been granted just now. ``heard`` is told of each report at once."""
        self._engine = engine
        self._lease = lease
        self._settings = settings
        self._clock = clock
        self._heard = heard
        self._latest: Progress | None = None
        self._steps: list[Mapping[str, Any]] = []
        self._resumed_step: int | None = None
        self._written_at = self._held_since = time.monotonic()
        self.cancel_requested = False

    def add(self, reports: Sequence[Progress]) -> None:
        """Take in reports; they are written by ``turn``."""
        for report in reports:
            self._heard(report)
            if report.resumed_step is not None:
                self._resumed_step = report.resumed_step
            if report.row is not None and report.step is not None:
                self._steps.append({**report.row, "step": report.step})
            hardness = report.hardness or (self._latest.hardness if self._latest else None)
            self._latest = _with_hardness(report, hardness)

    def turn(self) -> None:
        """Write what is due, or beat. Raises ``LeaseLost``, also when the database was away for as long as a lease."""
        waited = time.monotonic() - self._written_at
        if waited >= self._settings.heartbeat_s or (self._latest is not None and waited >= _WRITE_EVERY_S):
            self.flush()

    def flush(self) -> None:
        """Write everything now. Raises ``LeaseLost``; an outage of the database is left for the next turn."""
        began = self._written_at = time.monotonic()
        try:
            with transaction(self._engine) as tx:
                if self._latest is None:
                    cancel = service.heartbeat(tx, lease=self._lease, ttl_s=self._settings.lease_ttl_s)
                else:
                    cancel = service.record(
                        tx,
                        lease=self._lease,
                        latest=self._latest,
                        steps=self._steps,
                        ttl_s=self._settings.lease_ttl_s,
                        at=self._clock(),
                        resumed_step=self._resumed_step,
                    )
        except (DBAPIError, PoolTimeout) as error:
            log.warning("database_away", kind=type(error).__name__)
            self.check_held()
            return
        self.cancel_requested |= cancel
        self._held_since = began
        self._latest, self._steps, self._resumed_step = None, [], None

    def check_held(self) -> None:
        """Raises ``LeaseLost`` when the lease must have run out since the last time it was prolonged."""
        if time.monotonic() - self._held_since > self._settings.lease_ttl_s:
            raise LeaseLost(self._lease.row_id)


def _with_hardness(report: Progress, hardness: Mapping[str, Any] | None) -> Progress:
    return Progress(report.phase, report.step, report.max_steps, report.eta_seconds, None, hardness)
