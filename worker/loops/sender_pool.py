"""A pool of threads that send what is due: claim in a short transaction, send outside of any, record in another.

A claim pushes the next attempt forward, so a sender that dies in between repeats it. How much of the pool each receiver
may take, and all that are suspect together, is said in ``core.webhooks.claiming``.
"""

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.platform.clock import Clock
from core.platform.database import database_now, transaction
from core.platform.settings import WebhookSettings
from core.webhooks.claiming import Room
from worker.loops.turning import Turned, keep_turning

log = structlog.get_logger()

EACH_RECEIVER: Final = 4
_MARGIN_S: Final = 30
"""Beyond the call's own limit: name resolution and the recording transaction."""


class Addressed(Protocol):
    """What every job says."""

    @property
    def receiver(self) -> str:
        """Whom it is for."""
        ...

    @property
    def suspect(self) -> bool:
        """Whether that receiver is one of those that may have to be waited for."""
        ...


Job = TypeVar("Job", bound=Addressed)


class SenderPool(ABC, Generic[Job]):
    """Sends jobs. ``turn`` fills the pool and does not wait, so a loop can call it at any pace."""

    def __init__(self, engine: Engine, settings: WebhookSettings, *, threads: int, now: Clock | None = None) -> None:
        """``now`` replaces the database's clock in tests."""
        self._engine = engine
        self._settings = settings
        self._threads = threads
        self._now = now
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sender")
        self._flying: dict[Future[None], Job] = {}

    @abstractmethod
    def claim(self, tx: Session, room: Room, *, at: datetime, until: datetime) -> Sequence[Job]:
        """Jobs due at ``at`` for which there is room; due again at ``until``."""

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
        self._flying = {future: job for future, job in self._flying.items() if not future.done()}
        if len(self._flying) >= self._threads:
            return 0
        due: list[Job] = []
        with transaction(self._engine) as tx:
            at = self.time(tx)
            again = at + timedelta(seconds=self._settings.timeout_s + _MARGIN_S)
            for suspects in (False, True):
                room = self._room(due, suspects=suspects)
                due += self.claim(tx, room, at=at, until=again) if room.limit > 0 else ()
        for job in due:
            self._flying[self._pool.submit(self._deliver, job)] = job
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

    def _room(self, due: Sequence[Job], *, suspects: bool) -> Room:
        """What may still be claimed beside the calls under way and those of ``due``, which are about to be."""
        jobs = [*self._flying.values(), *due]
        free, each = self._threads - len(jobs), EACH_RECEIVER
        if suspects:
            free, each = min(free, self._threads // 2 - sum(job.suspect for job in jobs)), 1
        return Room(free, each, suspects, Counter(job.receiver for job in jobs))

    def _deliver(self, job: Job) -> None:
        try:
            self.send(job)
        except Exception:
            # The claim runs out and the job is tried again; a pool's future would swallow this silently.
            log.exception("attempt_broke", pool=type(self).__name__)


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
