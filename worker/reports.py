"""The way from the processes that compute to their supervisor: what they say, and how they know that it is there.

A process reports on what was its standard output, and reads its standard input, to which nothing is ever written: the
kernel closes the other end when the process that holds it ends, SIGKILL included.
"""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.unlearning.job import Progress, progress_line


class Reports:
    """Reports on what was standard output; anything else that prints there goes to standard error instead."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def __call__(self, progress: Progress) -> None:
        self._stream.write(progress_line(progress) + "\n")

    @contextmanager
    def handed_on(self) -> Iterator[None]:
        """Processes started meanwhile have it as their standard output."""
        os.dup2(self._stream.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(2, 1)


def end_with_input(folder: Path) -> None:
    """From now on this process and its group end, and ``folder`` goes, when whoever started it does."""
    held = os.dup(0)  # standard input is somebody else's while a lifeline is handed on
    threading.Thread(target=_end_when_closed, args=(held, folder), daemon=True).start()


def _end_when_closed(held: int, folder: Path) -> None:
    while os.read(held, 1024):
        pass
    shutil.rmtree(folder, ignore_errors=True)  # it holds personal data, and nobody else will remove it
    os.killpg(os.getpgrp(), signal.SIGKILL)


@contextmanager
def lifeline() -> Iterator[None]:
    """Processes started meanwhile have a standard input that ends with this process, in whatever way it ends."""
    own, (read, write) = os.dup(0), os.pipe()
    os.dup2(read, 0)
    os.close(read)
    try:
        yield
    finally:
        os.dup2(own, 0)
        os.close(own)
        os.close(write)
