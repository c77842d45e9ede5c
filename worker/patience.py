"""Work that needs the object store, from processes whose hours of computing are not to be lost to its minutes away."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from core.platform.disk import is_full
from core.platform.errors import DependencyDown
from core.platform.objects import StoreFull
from core.platform.objects.transfer import DigestMismatch
from core.unlearning.job import Failure, Outcome

log = structlog.get_logger()

DISK_FULL = Failure(
    "disk_full",
    "The worker's disk has no room left for the run's work folder; free some, or set UNLEARN_WORKER__WORK_DIR.",
    retryable=True,
)
_STORE_PATIENCE_S = 600.0
_LONGEST_PAUSE_S = 15.0
T = TypeVar("T")


class ToldToStop(Exception):
    """The supervisor asked us to stop."""


def patiently(work: Callable[[], T], cancelled: threading.Event) -> T:
    """``work``'s result, tried again while the store is away. Raises ``ToldToStop``, and ``DependencyDown`` at last."""
    give_up, pause = time.monotonic() + _STORE_PATIENCE_S, 0.5
    while True:
        if cancelled.is_set():
            raise ToldToStop
        try:
            return work()
        except DependencyDown as error:
            if time.monotonic() > give_up:
                raise
            log.warning("store_away", detail=error.detail)
            cancelled.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)


def in_words(work: Callable[[], Outcome]) -> Outcome:
    """``work``'s outcome, or that it was told to stop, or what was wrong with store or disk."""
    try:
        return work()
    except ToldToStop:
        return Outcome(stop_reason="cancelled")
    except StoreFull as error:
        return Outcome(failure=Failure(error.code, error.detail, retryable=True))
    except DependencyDown as error:
        return Outcome(failure=Failure("store_unavailable", error.detail, retryable=True))
    except DigestMismatch as error:
        return Outcome(failure=Failure(error.code, error.detail, retryable=False))
    except FileNotFoundError:
        message = "A file of the model or its data set is no longer in the object store."
        return Outcome(failure=Failure("file_missing", message, retryable=False))
    except Exception as error:  # a library that is not Python's has an error of its own for it
        if not is_full(error):
            raise
        return Outcome(failure=DISK_FULL)
