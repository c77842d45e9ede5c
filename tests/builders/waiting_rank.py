"""One of several processes that wait: ``python -m tests.builders.waiting_rank FOLDER``, in place of ``worker.rank``.

It writes its id to ``rank-N``. Where there is a file ``fatal`` the second kills itself; else all wait for SIGTERM.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from worker.reports import end_with_input


def main(folder: Path) -> None:
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    end_with_input(folder / "data")
    rank = os.environ["RANK"]
    partial = folder / f"rank-{rank}.partial"
    partial.write_text(str(os.getpid()))
    partial.rename(folder / f"rank-{rank}")
    if rank == "1" and (folder / "fatal").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    told.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
