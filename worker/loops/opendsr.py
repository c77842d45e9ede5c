"""OpenDSR requests follow their deletion requests, and their controllers are called back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.opendsr.deliveries import Callbacks, DueCallback
from core.opendsr.delivering import headers, record
from core.opendsr.following import follow_next
from core.opendsr.profile import Profile
from core.opendsr.progress import NEEDS_ATTENTION
from core.opendsr.signing import Signer
from core.platform.clock import Clock
from core.platform.database import database_now, transaction
from core.platform.settings import Settings
from core.webhooks.claiming import Room
from core.webhooks.sending import Http, HttpSender
from worker.loops.sender_pool import SenderPool

log = structlog.get_logger()

THREADS: Final = 16


def turn(engine: Engine, profile: Profile, clock: Clock | None = None) -> bool:
    """Bring one request to where its deletion requests have got; whether there was one."""
    with transaction(engine) as tx:
        row = follow_next(tx, profile=profile, at=clock() if clock else database_now(tx))
    if row is None:
        return False
    say = log.warning if row.state == NEEDS_ATTENTION else log.info
    say("opendsr_request_followed", id=row.id, status=row.status, state=row.state, reason=row.reason)
    return True


class CallbackSender(SenderPool[DueCallback]):
    """A pool of threads that send callbacks."""

    def __init__(
        self, engine: Engine, settings: Settings, signer: Signer, http: Http | None = None, now: Clock | None = None
    ) -> None:
        """``http`` and ``now`` replace the network and the database's clock in tests."""
        super().__init__(engine, settings.webhooks, threads=THREADS, now=now)
        self._signer = signer
        self._http: Http = http or HttpSender(settings.webhooks)

    def claim(self, tx: Session, room: Room, *, at: datetime, until: datetime) -> Sequence[DueCallback]:
        """The oldest pending event of each address, if it is due."""
        return Callbacks(tx).claim(room, at=at, until=until)

    def send(self, job: DueCallback) -> None:
        """Sign, send, record."""
        answer = self._http(job.url, headers(job, self._signer, self.moment()), job.body)
        with transaction(self._engine) as tx:
            verdict = record(tx, job, answer, at=self.time(tx), settings=self._settings)
        log.info(
            "opendsr_callback_attempt",
            event_id=job.event_id,
            attempt=job.attempts + 1,
            status_code=answer.status_code,
            error=answer.error,
            outcome=verdict.status,
        )
