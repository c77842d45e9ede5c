"""Sends webhooks that are due. A repeated delivery has the same id, which receivers use to tell."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.platform.clock import Clock
from core.platform.database import transaction
from core.platform.secrets import Keyring
from core.platform.settings import Settings
from core.webhooks.claiming import Room
from core.webhooks.deliveries import Deliveries, Due
from core.webhooks.delivering import headers, record
from core.webhooks.sending import Http, HttpSender
from worker.loops.sender_pool import SenderPool, drain

log = structlog.get_logger()

THREADS: Final = 32


class WebhookSender(SenderPool[Due]):
    """A pool of threads that send webhooks."""

    def __init__(
        self, engine: Engine, settings: Settings, keyring: Keyring, http: Http | None = None, now: Clock | None = None
    ) -> None:
        """``http`` and ``now`` replace the network and the database's clock in tests."""
        super().__init__(engine, settings.webhooks, threads=THREADS, now=now)
        self._keyring = keyring
        self._http: Http = http or HttpSender(settings.webhooks)

    def claim(self, tx: Session, room: Room, *, at: datetime, until: datetime) -> Sequence[Due]:
        """Due deliveries, a few of each endpoint."""
        return Deliveries(tx).claim(room, at=at, until=until)

    def send(self, job: Due) -> None:
        """Sign, send, record."""
        answer = self._http(job.url, headers(job, self._keyring, self.moment()), job.body)
        with transaction(self._engine) as tx:
            verdict = record(tx, job, answer, at=self.time(tx), settings=self._settings)
        log.info(
            "webhook_attempt",
            message_id=job.message_id,
            endpoint_id=job.endpoint_id,
            attempt=job.attempts + 1,
            status_code=answer.status_code,
            error=answer.error,
            outcome=verdict.status,
        )


def send_due(
    engine: Engine, settings: Settings, keyring: Keyring, http: Http | None = None, now: Clock | None = None
) -> int:
    """Send everything that is due and wait for it; says how many attempts were made."""
    return drain(WebhookSender(engine, settings, keyring, http, now))
