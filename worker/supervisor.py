"""The life of one run on this machine, from a granted lease to its end. Touches no device itself.

The child owns torch and the device, so that its crash, its memory and its deadline are its own. The supervisor alone
writes to the database, and every write is fenced by the lease.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from core.platform.clock import Clock, utc_now
from core.platform.database import transaction
from core.platform.disk import is_full
from core.platform.errors import DependencyDown, DomainError
from core.platform.leases import Lease, LeaseLost
from core.platform.objects import ObjectStore
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.platform.tracing import tracer
from core.platform.workfolder import work_folder
from core.runs import finishing, service
from core.runs.checkpoints import CheckpointRule
from core.runs.lifecycle import Status
from core.runs.preparing import NothingToForget, Prepared, keep, prepare
from core.runs.repository import Runs
from core.unlearning.job import NO_ROOM, OUTCOME_FILE, PUT_AWAY_FILE, Failure, Job, Outcome, Progress, read_outcome
from worker.childprocess import Child, crash
from worker.environment import child_environment
from worker.metrics import RunMetrics
from worker.patience import DISK_FULL
from worker.reporting import Reporting
from worker.tracing import RunTrace

log = structlog.get_logger()

CHILD = (sys.executable, "-m", "worker.child")
_GLANCE_S = 0.1
_SHUTDOWN_GRACE_S = 8.0


class Stop(Enum):
    """Why the supervisor ended a child before its time."""

    CANCEL = "cancel"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class End:
    """How a child ended: by itself (``stop`` is None) or because it was told to."""

    exit_code: int
    stop: Stop | None
    forced: bool
    """It did not stop when asked and was killed."""


class Supervisor:
    """Supervises runs, one call each."""

    def __init__(
        self,
        engine: Engine,
        store: ObjectStore,
        settings: Settings,
        *,
        stopping: threading.Event,
        command: Sequence[str] = CHILD,
        clock: Clock = utc_now,
        metrics: RunMetrics | None = None,
    ) -> None:
        """stopping: once set, a run at work is handed back. command: what is started with the work folder appended."""
        self._engine = engine
        self._store = store
        self._settings = settings
        self._worker = settings.worker
        self._stopping = stopping
        self._command = command
        self._clock = clock
        self._metrics = metrics or RunMetrics(CollectorRegistry())

    def supervise(self, lease: Lease) -> bool:
        """Carry the run to an end, or hand it back. Never raises: what goes wrong is written to the run and the log.

        Whether this worker can take another run; if not, it had no room for this one. When the lease is lost, the child
        is killed and nothing more is written. The work folder is always removed.
        """
        with RunTrace(tracer(), lease, self._parents(lease)) as trace:
            reporting = Reporting(self._engine, lease, self._worker, self._clock, partial(self._hear, trace))
            return self._supervise(lease, reporting)

    def _supervise(self, lease: Lease, reporting: Reporting) -> bool:
        try:
            with work_folder(self._worker.work_dir) as folder:
                return self._work(lease, reporting, folder)
        except LeaseLost:
            self._metrics.lost()
            log.warning("lease_lost")
        except Exception as error:
            if is_full(error):
                return self._without_room(lease, reporting, DISK_FULL)
            log.exception("run_failed_unexpectedly")
            self._give_up(lease, reporting)
        return True

    def _parents(self, lease: Lease) -> Sequence[str]:
        try:
            with transaction(self._engine) as tx:
                return Runs(tx).traceparents(lease.row_id)
        except (DBAPIError, PoolTimeout):  # no trace is worth a run
            return ()

    def _hear(self, trace: RunTrace, report: Progress) -> None:
        trace.enter(report.phase)
        if report.row is not None:
            self._metrics.stepped(report.row)

    def _work(self, lease: Lease, reporting: Reporting, folder: Path) -> bool:
        try:
            job = self._prepare(lease, reporting, folder)
        except NothingToForget:
            self._write(reporting, lambda: self._nothing_left(lease))
            return True
        except DomainError as error:
            retryable = isinstance(error, DependencyDown)
            failure = Failure(error.code, error.detail, retryable=retryable)
            self._conclude(lease, reporting, Outcome(failure=failure), publish_uri="")
            return True
        environment = child_environment(self._settings, os.environ)
        with Child(self._command, folder, environment) as child:
            log.info("child_started", child=child.pid)
            end = self._follow(child, reporting, folder)
        log.info("child_ended", exit_code=end.exit_code, stop=end.stop.value if end.stop else None)
        if end.stop is Stop.SHUTDOWN:
            self._write(reporting, lambda: self._release(lease, {"code": "worker_stopped"}))
            return True
        outcome = outcome_of(end, folder / OUTCOME_FILE, deadline_s=self._worker.run_deadline_s)
        if outcome.failure is not None and outcome.failure.code in NO_ROOM:
            return self._without_room(lease, reporting, outcome.failure)
        self._conclude(lease, reporting, outcome, publish_uri=job.publish_uri)
        return True

    def _without_room(self, lease: Lease, reporting: Reporting, failure: Failure) -> bool:
        why = {"code": failure.code, "message": failure.message}
        try:
            self._write(reporting, lambda: self._release(lease, why))
        except LeaseLost:
            log.warning("lease_lost")
        return False

    def _prepare(self, lease: Lease, reporting: Reporting, folder: Path) -> Job:
        with ThreadPoolExecutor(1, "prepare") as pool:  # selecting from millions of records outlasts a lease
            preparing = pool.submit(self._prepared, lease, folder)
            while not wait([preparing], timeout=_GLANCE_S).done:
                reporting.turn()
        prepared = preparing.result()
        self._write(reporting, lambda: self._keep(lease, prepared))
        return prepared.job

    def _prepared(self, lease: Lease, folder: Path) -> Prepared:
        with transaction(self._engine) as tx:
            return prepare(
                tx,
                lease=lease,
                folder=folder,
                uri=self._store.uri,
                device=self._worker.device,
                threads=self._worker.threads,
                processes=self._worker.processes,
                memory_bytes=self._worker.memory_bytes,
                rule=self._checkpoint_rule(),
            )

    def _checkpoint_rule(self) -> CheckpointRule | None:
        if self._settings.secret is None:
            return None
        return CheckpointRule(
            Keyring.of(self._settings), self._worker.checkpoint_every_s, self._worker.checkpoint_every_steps
        )

    def _keep(self, lease: Lease, prepared: Prepared) -> None:
        with transaction(self._engine) as tx:
            keep(tx, lease=lease, prepared=prepared, at=self._clock())

    def _follow(self, child: Child, reporting: Reporting, folder: Path) -> End:
        """Until the child has ended; by ``LeaseLost`` it leaves at once, and the caller's ``with`` kills the child."""
        deadline = time.monotonic() + self._worker.run_deadline_s
        stop: Stop | None = None
        kill_at = float("inf")
        forced = False
        while (exit_code := child.exit_code) is None:
            reporting.add(child.reports(_GLANCE_S))
            reporting.turn()
            now = time.monotonic()
            wanted = self._wanted_stop(reporting, now > deadline)
            if stop is None and wanted is not None:
                stop, kill_at = wanted, now + self._grace_s(wanted)
                log.info("child_told_to_stop", why=stop.value)
                if stop is Stop.SHUTDOWN:
                    (folder / PUT_AWAY_FILE).touch()  # the run goes on elsewhere, from where it is now
                child.terminate()
            elif now > kill_at:
                kill_at, forced = float("inf"), True
                child.kill()
        reporting.add(child.last_reports())
        reporting.flush()
        return End(exit_code, stop, forced)

    def _wanted_stop(self, reporting: Reporting, overdue: bool) -> Stop | None:
        if reporting.cancel_requested:
            return Stop.CANCEL
        if overdue:
            return Stop.DEADLINE
        return Stop.SHUTDOWN if self._stopping.is_set() else None

    def _grace_s(self, stop: Stop) -> float:
        grace_s = self._worker.cancel_grace_s
        return min(grace_s, _SHUTDOWN_GRACE_S) if stop is Stop.SHUTDOWN else grace_s

    def _conclude(self, lease: Lease, reporting: Reporting, outcome: Outcome, *, publish_uri: str) -> None:
        try:
            self._write(reporting, lambda: self._finish(lease, outcome, publish_uri))
        except LeaseLost:
            raise
        except Exception:
            log.exception("outcome_refused")
            self._give_up(lease, reporting)

    def _give_up(self, lease: Lease, reporting: Reporting) -> None:
        try:
            self._write(reporting, lambda: self._finish(lease, Outcome(failure=_internal()), ""))
        except LeaseLost:
            log.warning("lease_lost")
        except Exception:
            log.exception("run_left_to_the_reaper")

    def _write(self, reporting: Reporting, write: Callable[[], None]) -> None:
        """Do ``write`` as soon as the database lets us. Raises ``LeaseLost`` when that takes longer than the lease."""
        while True:
            try:
                write()
                return
            except (DBAPIError, PoolTimeout) as error:
                if isinstance(error, DBAPIError) and not _may_pass(error):
                    raise
                log.warning("database_away", kind=type(error).__name__)
                reporting.check_held()
                time.sleep(_GLANCE_S)

    def _finish(self, lease: Lease, outcome: Outcome, publish_uri: str) -> None:
        with transaction(self._engine) as tx:
            status = finishing.finish(
                tx,
                lease=lease,
                outcome=outcome,
                publish_uri=publish_uri,
                max_attempts=self._worker.max_attempts,
                at=self._clock(),
            )
        failure = outcome.failure.code if outcome.failure else None
        self._metrics.left(status.value)
        log.info("run_left", status=status.value, stop_reason=outcome.stop_reason, failure=failure)

    def _nothing_left(self, lease: Lease) -> None:
        with transaction(self._engine) as tx:
            finishing.nothing_left(tx, lease=lease, at=self._clock())
        self._metrics.left(Status.CANCELLED.value)
        log.info("run_left", status=Status.CANCELLED.value)

    def _release(self, lease: Lease, why: Mapping[str, str]) -> None:
        with transaction(self._engine) as tx:
            service.release(tx, lease=lease, why=why, at=self._clock())
        self._metrics.left(Status.QUEUED.value)
        log.info("run_left", status=Status.QUEUED.value, why=why["code"])


def outcome_of(end: End, file: Path, *, deadline_s: float) -> Outcome:
    """What the child says became of the job, or what its end tells when it says nothing."""
    if end.stop is Stop.DEADLINE:
        message = f"The run took longer than {deadline_s:g} s and was stopped; lower max_steps or raise the limit."
        return Outcome(failure=Failure("deadline_exceeded", message, retryable=False))
    if end.stop is Stop.CANCEL:
        return Outcome(stop_reason="cancelled")
    if end.exit_code == 0:
        return _told(file)
    return Outcome(failure=crash(end.exit_code))


def _told(file: Path) -> Outcome:
    try:
        outcome = read_outcome(file)
    except (OSError, ValueError, TypeError, KeyError):
        message = "The computing process ended without a readable result."
        return Outcome(failure=Failure("no_outcome", message, retryable=True))
    if outcome.stop_reason == "cancelled":  # and not by us: somebody else's signal
        message = "The computing process was told to stop from outside."
        return Outcome(failure=Failure("interrupted", message, retryable=True))
    return outcome


def _internal() -> Failure:
    message = "The worker could not process the run; its log says why."
    return Failure("internal_error", message, retryable=True)


def _may_pass(error: DBAPIError) -> bool:
    """Whether the database may accept the same write later: it was away, or chose us as a deadlock's victim."""
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or str(state)[:2] in ("08", "40", "53", "55", "57")
