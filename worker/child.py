"""Entry point of the GPU process: ``python -m worker.child FOLDER``. Loads, unlearns, evaluates and stages weights.

Talks to the object store only; it has no database and no broker. It reports on standard output, one JSON object a
line, leaves ``outcome.json`` behind, and stops at the next step when it gets SIGTERM. It ends when its supervisor
does: see ``worker.childprocess``. What it computes in several processes it has done by ``worker.launch``.
"""

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.platform import logging
from core.platform.objects import ObjectStore, open_store
from core.platform.objects.transfer import fetch_verified, upload_folder
from core.platform.settings import Settings
from core.platform.version import code
from core.unlearning.job import (
    JOB_FILE,
    OUTCOME_FILE,
    Job,
    Outcome,
    Progress,
    StoredFile,
    read_job,
    write_json,
)
from worker.patience import DISK_FULL, in_words, patiently
from worker.reports import Reports, end_with_input

Compute = Callable[[Job, Path, ObjectStore, list[Path], Reports, threading.Event], Outcome]


def _compute(
    job: Job,
    folder: Path,
    store: ObjectStore,
    dataset_files: list[Path],
    report: Reports,
    cancelled: threading.Event,
) -> Outcome:
    # What is imported here loads torch, which takes seconds: after the first report.
    if job.parameters.devices == "all":
        from worker.launch import processes_of, run_together

        processes = processes_of(job)
        if processes > 1:
            return run_together(job, folder, dataset_files, report, processes, cancelled)
    from worker.computing import compute

    return compute(job, folder, dataset_files, store, report, cancelled)


def main(folder: Path, compute: Compute = _compute) -> None:
    """Do the job in ``folder`` and write its outcome there. compute: what lies between fetching and staging."""
    cancelled = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: cancelled.set())
    end_with_input(folder)
    report = Reports()
    settings = Settings()
    logging.configure(settings)
    job = read_job(folder / JOB_FILE)
    report(Progress("preparing"))
    outcome = in_words(lambda: carry_out(job, folder, open_store(settings), report, cancelled, compute))
    if outcome.failure == DISK_FULL:
        _make_room(folder)
    write_json(folder / OUTCOME_FILE, replace(outcome, worker={**outcome.worker, "code": code(settings.commit)}))


def _make_room(folder: Path) -> None:
    """For the outcome, by what nobody needs any more."""
    for name in ("model", "dataset", "output"):
        shutil.rmtree(folder / name, ignore_errors=True)


def carry_out(
    job: Job,
    folder: Path,
    store: ObjectStore,
    report: Reports,
    cancelled: threading.Event,
    compute: Compute = _compute,
) -> Outcome:
    """Fetch what the job names, run it, and upload new weights if there are any."""
    began = time.monotonic()
    for file in job.model_files:
        patiently(lambda file=file: fetch_verified(store, file, folder / "model"), cancelled)
    paths = [
        patiently(lambda file=file, n=n: fetch_verified(store, file, folder / "dataset" / str(n)), cancelled)
        for n, file in enumerate(job.dataset.files)
    ]
    fetched_s = time.monotonic() - began
    (folder / "output").mkdir()
    outcome = compute(job, folder, store, paths, report, cancelled)
    outcome = replace(outcome, timings={"fetch_s": round(fetched_s, 3), **outcome.timings})
    if outcome.failure is not None or cancelled.is_set():
        return outcome
    return _staged(job, folder / "output", store, outcome, report, cancelled)


def _staged(
    job: Job,
    output: Path,
    store: ObjectStore,
    outcome: Outcome,
    report: Callable[[Progress], None],
    cancelled: threading.Event,
) -> Outcome:
    if job.mode == "assess" or not any(output.iterdir()):
        return outcome
    began = time.monotonic()
    report(Progress("publishing"))
    files = patiently(lambda: _upload_afresh(store, output, job.publish_uri), cancelled)
    spent_s = round(time.monotonic() - began, 3)
    return replace(outcome, staged=files, timings={**outcome.timings, "publish_s": spent_s})


def _upload_afresh(store: ObjectStore, output: Path, publish_uri: str) -> tuple[StoredFile, ...]:
    # The folder is this attempt's own, so what lies there is what an interrupted try has left.
    store.delete([info.uri for info in store.list(publish_uri)])
    return upload_folder(store, output, publish_uri)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
