"""Parquet footers, gone through by another process first.

For some damage (a column's levels that are not as many as its statistics say) the library does not raise but ends the
process, and whoever registers such a file would end the loops with it, again and again.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
import atexit
import json
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

_LIMIT_S: Final = 60.0
"""Longer than the footer of any file takes."""
_READABLE: Final = "readable"


class FooterProbe:
    """Asks a process that it keeps; one that dies is replaced by another. May be called from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self.close)

    def readable(self, path: Path) -> bool:
        """Whether the metadata of each column can be read. A death is believed the second time only."""
        with self._lock:
            answer = self._ask(path) or self._ask(path)
        return answer == _READABLE

    def close(self) -> None:
        """End the process, if there is one. The end of this process does so as well."""
        with self._lock:
            if self._process is not None:
                self._end(self._process)

    def _ask(self, path: Path) -> str:
        """The process's answer; empty when it died of the question, or took too long."""
        process = self._running()
        try:
            _stream(process.stdin).write(json.dumps(str(path)) + "\n")
            _stream(process.stdin).flush()
            in_time, _, _ = select.select([_stream(process.stdout)], [], [], _LIMIT_S)
            answer = _stream(process.stdout).readline().strip() if in_time else ""
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._end(process)
        return answer

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [sys.executable, "-m", __name__]
            self._process = subprocess.Popen(  # noqa: S603  nothing of the command is anybody's input
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a library's last words are about the content of a file
                text=True,
            )
        return self._process

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()
        self._process = None


def _stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # noqa: S101
    return pipe


def _go_through(path: str) -> str:
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            for group in range(metadata.num_row_groups):
                for column in range(metadata.row_group(group).num_columns):
                    metadata.row_group(group).column(column)
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return "damaged"
    return _READABLE


def main() -> None:
    """Answer each path on standard input with a line, until there are no more."""
    for line in sys.stdin:
        sys.stdout.write(_go_through(json.loads(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
