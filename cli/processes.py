"""The service's processes as children of one command: started together, stopped together.

Configuration goes to them by environment, never by argument, so that no secret shows in a list of processes.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import httpx

from cli.configuration import to_environment
from cli.output import Failed
from core.platform.settings import Settings

MODULES: Final[Mapping[str, str]] = {"api": "api", "loops": "worker.loops", "worker": "worker"}
"""Module that ``python -m`` runs, by the name of the process."""

_GRACE_S: Final = 20.0
_GLANCE_S: Final = 0.1


class Processes:
    """Running processes of the service. Use as a context manager; nothing outlives it."""

    def __init__(self, settings: Settings, names: Sequence[str], *, logs: Path | None = None) -> None:
        """``logs``: a folder that takes each process's output as ``<name>.log``; None: the terminal's."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("UNLEARN_")}
        self._environment = {**others, **to_environment(settings)}
        self._names = names
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Processes":
        try:
            for name in self._names:
                self._running[name] = self._start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fallen(self) -> tuple[str, int] | None:
        """Name and exit code of a process that has ended by itself."""
        ended = ((name, process.poll()) for name, process in self._running.items())
        return next(((name, code) for name, code in ended if code is not None), None)

    def stop(self) -> None:
        """End all politely, by force after a while, and wait for them."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", MODULES[name]]
        if self._logs is None:
            return self._spawn(command, None)
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log:
            return self._spawn(command, log.fileno())

    def _spawn(self, command: Sequence[str], output: int | None) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches the parent alone, which stops the others in its own time.
        return subprocess.Popen(  # noqa: S603
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def wait_ready(settings: Settings, processes: Processes, *, stop: threading.Event, limit_s: float = 60.0) -> bool:
    """Until the API says that database, broker and store answer; False when ``stop`` came first.

    Raises ``Failed`` when a process ends before that, or with what is not ready after ``limit_s``.
    """
    deadline = time.monotonic() + limit_s
    answer = "no answer"
    while not stop.wait(_GLANCE_S):
        check_alive(processes)
        try:
            reply = httpx.get(f"{local_url(settings)}/readyz", timeout=5)
            if reply.status_code == httpx.codes.OK:
                return True
            answer = reply.text
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise Failed(f"the service is not ready after {limit_s:.0f} s: {answer}")
    return False


def check_alive(processes: Processes) -> None:
    """Raises ``Failed`` naming a process that has ended by itself."""
    fallen = processes.fallen()
    if fallen is not None:
        name, code = fallen
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise Failed(f"the {name} process has ended {how}; everything else has been stopped")


def watch(processes: Processes, *, stop: threading.Event) -> None:
    """Return when ``stop`` is set. Raises ``Failed`` when a process ends by itself."""
    while not stop.wait(_GLANCE_S):
        check_alive(processes)


def local_url(settings: Settings) -> str:
    """Where this machine reaches the API, whatever address it listens on."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.api.host, settings.api.host)  # noqa: S104
    return f"http://{host}:{settings.api.port}"


@contextmanager
def stop_signals() -> Generator[threading.Event]:
    """An event that SIGINT (Ctrl-C) and SIGTERM set, instead of what they did before."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()

    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    """In the child: ask the kernel for SIGTERM when the parent is gone, however it went."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
