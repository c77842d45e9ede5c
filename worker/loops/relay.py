"""Hands over what transactions have left in the outbox: tasks to the broker, events to the webhook deliveries.

The two are turned apart: a broker that is away delays doorbells (workers look for themselves) and no event.
"""

from collections.abc import Callable, Sequence

import structlog
from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from core.platform.database import transaction
from core.platform.outbox import OutboxMessage, mark_sent, take_unsent

log = structlog.get_logger()

_AT_ONCE = 100

Send = Callable[[str, Sequence[str]], None]
FanOut = Callable[[Session, OutboxMessage], object]


def task_sender(app: Celery) -> Send:
    """Sends a task by name, without waiting for a broker that is away: that raises, and the row stays."""

    def send(name: str, arguments: Sequence[str]) -> None:
        app.send_task(name, args=list(arguments), retry=False, ignore_result=True)

    return send


def turn_tasks(engine: Engine, send: Send) -> int:
    """Send the oldest unsent tasks; how many. When the broker fails, what was sent before is not sent again."""
    with transaction(engine) as tx:
        messages = take_unsent(tx, topic="task", limit=_AT_ONCE)
        sent: list[int] = []
        try:
            for message in messages:
                send(message.name, message.payload["args"])
                sent.append(message.id)
        except Exception as error:
            if not sent:
                raise
            log.warning("broker_away", kind=type(error).__name__, left=len(messages) - len(sent))
        if sent:
            mark_sent(tx, sent)
    return len(sent)


def turn_events(engine: Engine, fan_out: FanOut) -> int:
    """Turn the oldest unsent events into deliveries, each exactly once; how many events."""
    with transaction(engine) as tx:
        messages = take_unsent(tx, topic="event", limit=_AT_ONCE)
        for message in messages:
            fan_out(tx, message)
        if messages:
            mark_sent(tx, [message.id for message in messages])
    return len(messages)
