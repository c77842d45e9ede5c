"""One run at a time: claim it, supervise it, come back for the next."""

import os
import socket
import threading
import time

import structlog
from sqlalchemy import Engine

from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.platform.errors import DependencyDown
from core.platform.leases import Lease
from core.platform.objects import ObjectStore
from core.platform.settings import Settings
from core.runs import service
from core.runs.repository import Runs
from worker.supervisor import Supervisor

log = structlog.get_logger()

_LONGEST_REST_S = 300.0


class Executor:
    """Takes queued runs for this process. Safe to call from several threads: one at a time gets to work."""

    def __init__(
        self,
        engine: Engine,
        store: ObjectStore,
        settings: Settings,
        *,
        supervisor: Supervisor,
        stopping: threading.Event,
        clock: Clock = utc_now,
    ) -> None:
        """stopping: once set, no more runs are taken."""
        self._engine = engine
        self._store = store
        self._settings = settings
        self._supervisor = supervisor
        self._stopping = stopping
        self._clock = clock
        self._busy = threading.Lock()
        self._fruitless = 0
        self._rests_until = 0.0
        self.owner = f"{socket.gethostname()}:{os.getpid()}"

    def execute(self, run_id: str | None) -> bool:
        """Do one queued run from beginning to end (the named one, or the oldest); whether there was one.

        Returns at once when this process holds a run already, when nothing is queued, or when the object store is
        away: runs are not claimed only to fail. After a run that it had no room for, a worker rests before it takes
        another; the longer, the oftener that happens.
        """
        if self._stopping.is_set() or time.monotonic() < self._rests_until or not self._busy.acquire(blocking=False):
            return False
        try:
            lease = self._claim(run_id)
            if lease is None:
                return False
            with structlog.contextvars.bound_contextvars(run_id=lease.row_id, attempt=lease.attempt):
                log.info("run_claimed", owner=self.owner)
                self._rest(needed=not self._supervisor.supervise(lease))
            return True
        finally:
            self._busy.release()

    def wait_idle(self) -> None:
        """Return when no run is held; with ``stopping`` set, none will be taken after that."""
        with self._busy:
            return

    def _rest(self, *, needed: bool) -> None:
        self._fruitless = self._fruitless + 1 if needed else 0
        if needed:
            pause_s = min(self._settings.worker.poll_s * 2**self._fruitless, _LONGEST_REST_S)
            self._rests_until = time.monotonic() + pause_s
            log.warning("worker_rests", pause_s=pause_s)

    def _claim(self, run_id: str | None) -> Lease | None:
        with transaction(self._engine) as tx:
            if not Runs(tx).any_queued():
                return None
        try:
            self._store.check()
        except DependencyDown as error:
            log.warning("store_away", detail=error.detail)
            return None
        ttl_s = self._settings.worker.lease_ttl_s
        with transaction(self._engine) as tx:
            return service.claim(tx, run_id=run_id, owner=self.owner, ttl_s=ttl_s, at=self._clock())
