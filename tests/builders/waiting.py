"""Waiting on conditions, never for a time."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LONGEST_PAUSE_S = 0.15
"""Looking costs the time of those that are waited for."""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], T], *, timeout_s: float = 30.0, what: str = "the condition") -> T:
    """The first true value of ``condition()``; fails when ``timeout_s`` passes before."""
    end, pause = time.monotonic() + timeout_s, 0.02
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come true in {timeout_s} s")
        time.sleep(pause)
        pause = min(1.2 * pause, _LONGEST_PAUSE_S)
    return value
