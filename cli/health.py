"""``python -m cli.health loops|worker``: is this container's process at work? For container health checks.

The loops are when nothing has waited in the outbox for longer than a minute; a worker is when it answers a ping over
the broker. Exit code 1 otherwise.
"""

import socket
import sys
from datetime import timedelta
from typing import Any, Final, cast

from celery import Celery
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cli import environment
from cli.database import opened
from cli.output import Failed, show_failure
from core.platform.database import database_now
from core.platform.outbox import OutboxRow
from core.platform.settings import Settings

_PATIENCE: Final = timedelta(minutes=1)
_PING_S: Final = 10.0


def check_loops(settings: Settings) -> None:
    """Raises ``Failed`` when messages wait, or when the database does not answer."""
    with opened(settings) as tx:
        waiting = overdue(tx)
    if waiting:
        raise Failed(f"{waiting} messages have waited in the outbox for more than a minute")


def overdue(tx: Session) -> int:
    """How many messages have waited for longer than a minute."""
    before = database_now(tx) - _PATIENCE
    waiting = select(func.count()).where(OutboxRow.sent_at.is_(None), OutboxRow.created_at < before)
    return tx.execute(waiting).scalar_one()


def check_worker(settings: Settings) -> None:
    """Raises ``Failed`` when the worker on this host does not answer. Needs a broker that is a server."""
    if settings.broker.url is None:
        raise Failed("no broker: resolve the settings first")
    name = f"celery@{socket.gethostname()}"
    with Celery(broker=settings.broker.url.get_secret_value()) as app:
        answers = cast(list[dict[str, Any]], app.control.ping(destination=[name], timeout=_PING_S, limit=1))
    if not answers:
        raise Failed(f"{name} does not answer")


def main(process: str) -> None:
    """Check one kind of process. Raises ``Failed``."""
    settings = environment.resolved()
    match process:
        case "loops":
            check_loops(settings)
        case "worker":
            check_worker(settings)
        case _:
            raise Failed(f"no such process: {process}")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "")
    except Failed as failed:
        show_failure(str(failed))
        sys.exit(1)
