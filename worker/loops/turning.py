"""Calling one loop's turn again and again, through any outage."""

import threading
from collections.abc import Callable

import structlog
from kombu.exceptions import OperationalError as BrokerDown
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from core.platform.errors import DependencyDown

log = structlog.get_logger()

_LONGEST_PAUSE_S = 30.0


def keep_turning(name: str, turn: Callable[[], object], *, pause_s: float, stop: threading.Event) -> None:
    """Call ``turn`` until ``stop`` is set: at once after a turn that found work (a true answer), else after a pause.

    A turn that fails is logged and repeated after a pause that doubles up to half a minute; nothing ends the loop.
    """
    failures = 0
    while not stop.is_set():
        try:
            found = turn()
            failures = 0
            pause = 0.0 if found else pause_s
        except Exception as error:
            failures += 1
            pause = min(pause_s * 2**failures, _LONGEST_PAUSE_S)
            _say(name, error, pause)
        stop.wait(pause)


def _say(loop: str, error: Exception, pause_s: float) -> None:
    if is_outage(error):
        log.warning("loop_delayed", loop=loop, kind=type(error).__name__, again_in_s=round(pause_s, 1))
    else:
        log.error("loop_turn_failed", loop=loop, again_in_s=round(pause_s, 1), exc_info=error)


def is_outage(error: Exception) -> bool:
    """Whether something that a turn needs was away, and nothing else went wrong."""
    if isinstance(error, ExceptionGroup):
        return all(is_outage(one) for one in error.exceptions)
    return isinstance(error, DBAPIError | PoolTimeout | BrokerDown | DependencyDown | OSError)
