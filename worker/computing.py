"""The part of a job between fetching and staging, on the device of this process."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from core.platform.objects import ObjectStore
from core.unlearning.job import SELECTION_FILE, Job, Outcome, Progress
from core.unlearning.ranks import Ranks
from core.unlearning.run import run_job
from worker.checkpoints import StoredCheckpoints
from worker.patience import patiently

MODEL = "model"
OUTPUT = "output"


def compute(
    job: Job,
    folder: Path,
    dataset_files: Sequence[Path],
    store: ObjectStore,
    report: Callable[[Progress], None],
    cancelled: threading.Event,
    ranks: Ranks | None = None,
) -> Outcome:
    """``run_job`` in ``folder``, with the run's checkpoints; where processes share a run, the first one keeps them."""
    with _checkpoints(job, folder, store, cancelled, keeps=ranks is None or ranks.leads) as checkpoints:
        return run_job(
            job,
            model_dir=folder / MODEL,
            dataset_files=dataset_files,
            selection=folder / SELECTION_FILE,
            output_dir=folder / OUTPUT,
            report=report,
            cancelled=cancelled.is_set,
            checkpoints=checkpoints,
            ranks=ranks,
        )


def _checkpoints(
    job: Job, folder: Path, store: ObjectStore, cancelled: threading.Event, *, keeps: bool
) -> AbstractContextManager[StoredCheckpoints | None]:
    if job.checkpoints is None:
        return nullcontext()
    return StoredCheckpoints(
        store,
        job.checkpoints,
        attempt=job.attempt,
        folder=folder,
        patiently=partial(patiently, cancelled=cancelled),
        keeps=keeps,
    )
