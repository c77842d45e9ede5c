"""One of the processes of a run: ``python -m worker.rank FOLDER DATASET_FILE …``, started by ``worker.launch``.

It writes the outcome if it is the first of them. One that fails says why and ends at once: the others may be waiting
for it, and the launcher ends them.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from core.platform import logging
from core.platform.objects import open_store
from core.platform.settings import Settings
from core.unlearning.job import JOB_FILE, Job, Progress, read_job, write_json
from core.unlearning.ranks import joined
from worker.computing import compute
from worker.launch import result_file
from worker.patience import in_words
from worker.reports import Reports, end_with_input


def main(folder: Path, dataset_files: Sequence[Path]) -> None:
    """Do this process's part of the job in ``folder``."""
    cancelled = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: cancelled.set())
    end_with_input(folder)
    reports = Reports()
    settings = Settings()
    logging.configure(settings)
    store = open_store(settings)
    job = own_part(read_job(folder / JOB_FILE))
    with joined(torch.device(job.device)) as ranks:
        report = reports if ranks.leads else silent
        outcome = in_words(lambda: compute(job, folder, dataset_files, store, report, cancelled, ranks))
        if ranks.leads or outcome.failure is not None:
            write_json(result_file(folder, ranks.rank), outcome)
        if outcome.failure is not None:
            os._exit(1)  # without waiting for the others


def own_part(job: Job) -> Job:
    """The job on this process's device, with its share of the threads."""
    local, size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = job.device != "cpu" and torch.cuda.is_available()
    threads = max(1, (job.threads or torch.get_num_threads()) // size)
    return replace(job, device=f"cuda:{local}" if on_gpu else "cpu", threads=threads)


def silent(_: Progress) -> None:
    """The first process reports for all."""


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(file) for file in sys.argv[2:]])
