"""Looking for work without being called: a lost doorbell only delays."""

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger()


def keep_looking(execute: Callable[[str | None], bool], *, poll_s: float, stop: threading.Event) -> None:
    """Take queued runs until ``stop`` is set; look again at once after a run, and every ``poll_s`` otherwise."""
    while not stop.is_set():
        if not look(execute, None):
            stop.wait(poll_s)


def look(execute: Callable[[str | None], bool], run_id: str | None) -> bool:
    """Take a queued run, the named one or any; whether there was one. What goes wrong is logged: it is looked again."""
    try:
        return execute(run_id)
    except SQLAlchemyError as error:
        log.warning("database_away", kind=type(error).__name__)
    except Exception:
        log.exception("polling_failed")
    return False
