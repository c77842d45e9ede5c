"""Sends webhooks that are due: claim in a short transaction, send outside of any, record in another.

A claim pushes the delivery's next attempt forward, so a sender that dies in between repeats it (same id, which
receivers use to tell). One endpoint takes only a few threads at a time, so a slow one does not hold up the others.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.platform.clock import Clock
from core.platform.database import database_now, transaction
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.webhooks.delivering import headers, record
from core.webhooks.repository import Deliveries, Due
from core.webhooks.sending import Http, HttpSender

log = structlog.get_logger()

THREADS: Final = 32
EACH_ENDPOINT: Final = 4
_MARGIN_S: Final = 30
"""Beyond the call's own limit: name resolution and the recording transaction."""


class WebhookSender:
    """A pool of threads that send. ``turn`` fills it and does not wait, so a loop can call it at any pace."""

    def __init__(
        self, engine: Engine, settings: Settings, keyring: Keyring, http: Http | None = None, now: Clock | None = None
    ) -> None:
        """``http`` and ``now`` replace the network and the database's clock in tests."""
        self._engine = engine
        self._settings = settings.webhooks
        self._keyring = keyring
        self._http: Http = http or HttpSender(settings.webhooks)
        self._now = now
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")
        self._flying: set[Future[None]] = set()
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()

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
        free = THREADS - len(self._flying)
        due = self._claim(free) if free > 0 else []
        for one in due:
            with self._lock:
                self._busy[one.endpoint_id] += 1
            self._flying.add(self._pool.submit(self._deliver, one))
        return len(due)

    def rest(self, timeout_s: float | None = None) -> bool:
        """Wait until one of the calls under way has ended; False when there are none."""
        return bool(self._flying) and bool(wait(self._flying, timeout_s, return_when=FIRST_COMPLETED).done)

    def close(self) -> None:
        """Wait for the calls under way (at most their time limit), and start no more."""
        self._pool.shutdown(wait=True)

    def _claim(self, limit: int) -> Sequence[Due]:
        with self._lock:
            busy = [endpoint_id for endpoint_id, calls in self._busy.items() if calls > 0]
        with transaction(self._engine) as tx:
            at = self._time(tx)
            again = at + timedelta(seconds=self._settings.timeout_s + _MARGIN_S)
            return Deliveries(tx).claim(at=at, until=again, limit=limit, each=EACH_ENDPOINT, without=busy)

    def _deliver(self, due: Due) -> None:
        try:
            self._send(due)
        except Exception:
            # The claim runs out and the delivery is tried again; a pool's future would swallow this silently.
            log.exception("webhook_attempt_broke", message_id=due.message_id, endpoint_id=due.endpoint_id)
        finally:
            with self._lock:
                self._busy[due.endpoint_id] -= 1
                self._busy += Counter()  # drops what has come to zero

    def _send(self, due: Due) -> None:
        answer = self._http(due.url, headers(due, self._keyring, self._moment()), due.body)
        with transaction(self._engine) as tx:
            verdict = record(tx, due, answer, at=self._time(tx), settings=self._settings)
        log.info(
            "webhook_attempt",
            message_id=due.message_id,
            endpoint_id=due.endpoint_id,
            attempt=due.attempts + 1,
            status_code=answer.status_code,
            error=answer.error,
            outcome=verdict.status,
        )

    def _moment(self) -> datetime:
        if self._now is not None:
            return self._now()
        with transaction(self._engine) as tx:
            return database_now(tx)

    def _time(self, tx: Session) -> datetime:
        return self._now() if self._now is not None else database_now(tx)


def send_due(
    engine: Engine, settings: Settings, keyring: Keyring, http: Http | None = None, now: Clock | None = None
) -> int:
    """Send everything that is due and wait for it; says how many attempts were made.

    It may take as long as the slowest receiver: a process with other loops runs it in a thread of its own.
    """
    made = 0
    with WebhookSender(engine, settings, keyring, http, now) as sender:
        while True:
            started = sender.turn()
            made += started
            if not started and not sender.rest():
                return made


def run(sender: WebhookSender, stop: Callable[[float], bool], *, poll_s: float) -> None:
    """Send until ``stop(seconds)``, which waits that long, says True. Database trouble is logged and outlasted."""
    pause = 0.0
    while not stop(pause):
        try:
            pause = 0.0 if sender.turn() or sender.rest(poll_s) else poll_s
        except Exception:
            log.exception("webhook_sender_turn_failed")
            pause = poll_s
    sender.close()
