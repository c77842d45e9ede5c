"""Calling one loop's turn again and again, through any outage."""

import threading
import time
from collections.abc import Callable

import structlog
from kombu.exceptions import OperationalError as BrokerDown
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from core.platform.errors import DependencyDown

log = structlog.get_logger()

_LONGEST_PAUSE_S = 30.0

Turned = Callable[[str, str, float], None]
"""Told of every turn: loop, ``work`` or ``idle`` or ``failed``, seconds."""


def keep_turning(
    name: str, turn: Callable[[], object], *, pause_s: float, stop: threading.Event, turned: Turned | None = None
) -> None:
    """Call ``turn`` until ``stop`` is set: at once after a turn that found work (a true answer), else after a pause.

    A turn that fails is logged and repeated after a pause that doubles up to half a minute; nothing ends the loop.
    """
    failures = 0
    while not stop.is_set():
        began = time.perf_counter()
        try:
            found = turn()
            failures, result = 0, "work" if found else "idle"
            pause = 0.0 if found else pause_s
        except Exception as error:
            failures, result = failures + 1, "failed"
            pause = min(pause_s * 2**failures, _LONGEST_PAUSE_S)
            _say(name, error, pause)
        if turned is not None:
            turned(name, result, time.perf_counter() - began)
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
