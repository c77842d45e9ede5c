"""Has jobs done by two processes, as a child does: ``python -m tests.builders.launching FOLDER``.

The outcome of each time goes to ``FOLDER/<name>.json``. The last time it waits to be killed.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from core.unlearning.job import JOB_FILE, Job, Outcome, read_job, write_json
from tests.builders.waiting import wait_until
from worker.launch import run_together
from worker.reports import Reports

WAITING = "tests.builders.waiting_rank"


def main(folder: Path) -> None:
    job, reports = read_job(folder / JOB_FILE), Reports()
    files = [folder / "records.parquet"]
    together = run_together(job, folder, files, reports, 2, threading.Event(), module="tests.builders.joint_rank")
    write_json(folder / "together.json", together)
    (folder / "fatal").touch()
    write_json(folder / "killed.json", wait(job, folder, reports, threading.Event()))
    (folder / "fatal").unlink()
    told = threading.Event()
    forget_ranks(folder)
    threading.Thread(target=terminate, args=(folder,)).start()
    write_json(folder / "terminated.json", wait(job, folder, reports, told))
    assert told.is_set()
    forget_ranks(folder)
    wait(job, folder, reports, threading.Event())


def wait(job: Job, folder: Path, reports: Reports, cancelled: threading.Event) -> Outcome:
    return run_together(job, folder, [], reports, 2, cancelled, module=WAITING)


def forget_ranks(folder: Path) -> None:
    for rank in range(2):
        (folder / f"rank-{rank}").unlink(missing_ok=True)


def terminate(folder: Path) -> None:
    """SIGTERM to this process alone, once both others are there to be told."""
    wait_until(lambda: all((folder / f"rank-{rank}").exists() for rank in range(2)), what="both processes")
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
