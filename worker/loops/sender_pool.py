"""A pool of threads that send what is due: claim in a short transaction, send outside of any, record in another.

A claim pushes the next attempt forward, so a sender that dies in between repeats it. One receiver takes only a few
threads at a time, so a slow one does not hold up the others.
"""

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.platform.clock import Clock
from core.platform.database import database_now, transaction
from core.platform.settings import WebhookSettings
from worker.loops.turning import Turned, keep_turning

log = structlog.get_logger()

EACH_RECEIVER: Final = 4
_MARGIN_S: Final = 30
"""Beyond the call's own limit: name resolution and the recording transaction."""

Job = TypeVar("Job")


class SenderPool(ABC, Generic[Job]):
    """Sends jobs. ``turn`` fills the pool and does not wait, so a loop can call it at any pace."""

    def __init__(self, engine: Engine, settings: WebhookSettings, *, threads: int, now: Clock | None = None) -> None:
        """``now`` replaces the database's clock in tests."""
        self._engine = engine
        self._settings = settings
        self._threads = threads
        self._now = now
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sender")
        self._flying: set[Future[None]] = set()
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()

    @abstractmethod
    def claim(self, tx: Session, *, at: datetime, until: datetime, limit: int, busy: Sequence[str]) -> Sequence[Job]:
        """Up to ``limit`` jobs due at ``at``, for none of the receivers in ``busy``; due again at ``until``."""

    @abstractmethod
    def receiver(self, job: Job) -> str:
        """Whom the job is for."""

    @abstractmethod
    def send(self, job: Job) -> None:
        """Send it and record what came of it."""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends as ``close`` does."""
        self.close()

    def turn(self) -> int:
        """Start sending what is due, as far as there are threads free; says how many were started."""
        self._flying = {future for future in self._flying if not future.done()}
        free = self._threads - len(self._flying)
        due = self._claim(free) if free > 0 else []
        for one in due:
            with self._lock:
                self._busy[self.receiver(one)] += 1
            self._flying.add(self._pool.submit(self._deliver, one))
        return len(due)

    def rest(self, timeout_s: float | None = None) -> bool:
        """Wait until one of the calls under way has ended; False when there are none."""
        return bool(self._flying) and bool(wait(self._flying, timeout_s, return_when=FIRST_COMPLETED).done)

    def close(self) -> None:
        """Wait for the calls under way (at most their time limit), and start no more."""
        self._pool.shutdown(wait=True)

    def moment(self) -> datetime:
        """The present time, by the database's clock, in a transaction of its own."""
        if self._now is not None:
            return self._now()
        with transaction(self._engine) as tx:
            return database_now(tx)

    def time(self, tx: Session) -> datetime:
        """The present time within ``tx``."""
        return self._now() if self._now is not None else database_now(tx)

    def _claim(self, limit: int) -> Sequence[Job]:
        with self._lock:
            busy = [receiver for receiver, calls in self._busy.items() if calls > 0]
        with transaction(self._engine) as tx:
            at = self.time(tx)
            again = at + timedelta(seconds=self._settings.timeout_s + _MARGIN_S)
            return self.claim(tx, at=at, until=again, limit=limit, busy=busy)

    def _deliver(self, job: Job) -> None:
        try:
            self.send(job)
        except Exception:
            # The claim runs out and the job is tried again; a pool's future would swallow this silently.
            log.exception("attempt_broke", pool=type(self).__name__)
        finally:
            with self._lock:
                self._busy[self.receiver(job)] -= 1
                self._busy += Counter()  # drops what has come to zero


def drain(pool: SenderPool[Job]) -> int:
    """Send everything that is due and wait for it; says how many attempts were made. Closes the pool.

    It may take as long as the slowest receiver: a process with other loops runs it in a thread of its own.
    """
    made = 0
    with pool:
        while True:
            started = pool.turn()
            made += started
            if not started and not pool.rest():
                return made


def run(
    pool: SenderPool[Job], name: str, *, poll_s: float, stop: threading.Event, turned: Turned | None = None
) -> None:
    """Send until ``stop`` is set, through any outage (``turning``); then wait for the calls under way."""
    keep_turning(name, lambda: pool.turn() or pool.rest(poll_s), pause_s=poll_s, stop=stop, turned=turned)
    pool.close()
