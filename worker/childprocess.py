"""The GPU process as its supervisor sees it: started apart, read line by line, ended with all it has started.

How it dies with its supervisor: the child watches its standard input, of which the supervisor holds the other end and
never writes to it. When the supervisor ends in any way, SIGKILL included, the kernel closes that end and the child
reads the end of its input. (``PR_SET_PDEATHSIG`` would not do: it follows the *thread* that started the child, and
supervisors run in threads of a pool.)
"""

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from core.runs.lifecycle import PHASES
from core.unlearning.job import KILLED, Failure, Progress, parse_progress

_LONGEST_LINE_BYTES = 256 * 1024


class Child:
    """A running child. Use as a context manager: at its end, nothing of the child's process group is left."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Start ``command folder`` in a process group of its own. Secrets go by ``environment``, never by argument."""
        self._process = subprocess.Popen(  # noqa: S603
            [*command, str(folder)],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._reports: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="child-output", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        self._process.wait()
        self._reader.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not self._reader.is_alive():
                pipe.close()

    @property
    def pid(self) -> int:
        """Process id, and id of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def reports(self, timeout_s: float) -> list[Progress]:
        """What it has reported since the last call; waits up to ``timeout_s`` for something, or its end."""
        found: list[Progress] = []
        with suppress(queue.Empty):
            first = self._reports.get(timeout=timeout_s)
            while True:
                if first is not None:
                    found.append(first)
                first = self._reports.get_nowait()
        return found

    def last_reports(self) -> list[Progress]:
        """What it reported before it ended. Ends what is left of its group first, which may hold its output open."""
        self.kill()
        self._reader.join(timeout=5)
        return self.reports(0)

    def terminate(self) -> None:
        """Ask it to stop at the next step."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything it has started, now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        while line := self._process.stdout.readline(_LONGEST_LINE_BYTES):
            report = parse_progress(line.decode(errors="replace"))
            if report is not None and _makes_sense(report):
                self._reports.put(report)
        self._reports.put(None)


def crash(exit_code: int) -> Failure:
    """What the end of a computing process that said nothing tells; ``exit_code`` as of ``Child.exit_code``."""
    if exit_code == -9:
        message = (
            "The computing process was killed, most likely because the machine ran out of memory; "
            "lower micro_batch_size or batch_size, or use a larger worker."
        )
        return Failure(KILLED, message, retryable=True)
    how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"
    return Failure("child_crashed", f"The computing process {how}; the worker's log says more.", retryable=True)


def _makes_sense(report: Progress) -> bool:
    """Whether it is a report: a library's stray line may be JSON as well."""
    numbers = (report.step, report.max_steps, report.eta_seconds, report.resumed_step)
    return (
        report.phase in PHASES
        and all(value is None or isinstance(value, int | float) for value in numbers)
        and all(value is None or isinstance(value, Mapping) for value in (report.row, report.hardness))
    )
