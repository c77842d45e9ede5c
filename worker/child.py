"""Entry point of the GPU process: ``python -m worker.child FOLDER``. Loads, unlearns, evaluates and stages weights.

Talks to the object store only; it has no database and no broker. It reports on standard output, one JSON object a
line, leaves ``outcome.json`` behind, and stops at the next step when it gets SIGTERM. It ends when its supervisor
does: see ``worker.childprocess``.
"""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from core.platform import logging
from core.platform.errors import DependencyDown
from core.platform.objects import ObjectStore, open_store
from core.platform.objects.transfer import DigestMismatch, fetch_verified, upload_folder
from core.platform.settings import Settings
from core.unlearning.job import (
    JOB_FILE,
    OUTCOME_FILE,
    SELECTION_FILE,
    Failure,
    Job,
    Outcome,
    Progress,
    StoredFile,
    progress_line,
    read_job,
    write_json,
)

if TYPE_CHECKING:
    from worker.checkpoints import StoredCheckpoints

log = structlog.get_logger()

_STORE_PATIENCE_S = 600.0
_LONGEST_PAUSE_S = 15.0
T = TypeVar("T")


def main(folder: Path) -> None:
    """Do the job in ``folder`` and write its outcome there."""
    cancelled = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: cancelled.set())
    threading.Thread(target=_end_with_supervisor, args=(folder,), daemon=True).start()
    report = _reporter()
    settings = Settings()
    logging.configure(settings)
    job = read_job(folder / JOB_FILE)
    report(Progress("preparing"))
    write_json(folder / OUTCOME_FILE, carry_out(job, folder, open_store(settings), report, cancelled))


def carry_out(
    job: Job,
    folder: Path,
    store: ObjectStore,
    report: Callable[[Progress], None],
    cancelled: threading.Event,
) -> Outcome:
    """Fetch what the job names, run it, and upload new weights if there are any; known failures are in the outcome."""
    began = time.monotonic()
    try:
        model_dir, dataset_files = folder / "model", folder / "dataset"
        for file in job.model_files:
            _patiently(lambda file=file: fetch_verified(store, file, model_dir), cancelled)
        paths = [
            _patiently(lambda file=file, n=n: fetch_verified(store, file, dataset_files / str(n)), cancelled)
            for n, file in enumerate(job.dataset.files)
        ]
        fetched_s = time.monotonic() - began
        outcome = _run(job, folder, store, model_dir, paths, report, cancelled)
        outcome = replace(outcome, timings={"fetch_s": round(fetched_s, 3), **outcome.timings})
        if outcome.failure is not None or cancelled.is_set():
            return outcome
        return _staged(job, folder / "output", store, outcome, report, cancelled)
    except _Cancelled:
        return Outcome(stop_reason="cancelled")
    except DependencyDown as error:
        return Outcome(failure=Failure("store_unavailable", error.detail, retryable=True))
    except DigestMismatch as error:
        return Outcome(failure=Failure(error.code, error.detail, retryable=False))
    except FileNotFoundError:
        message = "A file of the model or its data set is no longer in the object store."
        return Outcome(failure=Failure("file_missing", message, retryable=False))


class _Cancelled(Exception):
    """The supervisor asked us to stop."""


def _run(
    job: Job,
    folder: Path,
    store: ObjectStore,
    model_dir: Path,
    dataset_files: list[Path],
    report: Callable[[Progress], None],
    cancelled: threading.Event,
) -> Outcome:
    from core.unlearning.run import run_job  # loads torch, which takes seconds: after the first report

    output = folder / "output"
    output.mkdir()
    with _checkpoints(job, folder, store, cancelled) as checkpoints:
        return run_job(
            job,
            model_dir=model_dir,
            dataset_files=dataset_files,
            selection=folder / SELECTION_FILE,
            output_dir=output,
            report=report,
            cancelled=cancelled.is_set,
            checkpoints=checkpoints,
        )


def _checkpoints(
    job: Job, folder: Path, store: ObjectStore, cancelled: threading.Event
) -> "AbstractContextManager[StoredCheckpoints | None]":
    from worker.checkpoints import StoredCheckpoints  # loads torch as well

    if job.checkpoints is None:
        return nullcontext()
    patiently = partial(_patiently, cancelled=cancelled)
    return StoredCheckpoints(store, job.checkpoints, attempt=job.attempt, folder=folder, patiently=patiently)


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
    files = _patiently(lambda: _upload_afresh(store, output, job.publish_uri), cancelled)
    spent_s = round(time.monotonic() - began, 3)
    return replace(outcome, staged=files, timings={**outcome.timings, "publish_s": spent_s})


def _upload_afresh(store: ObjectStore, output: Path, publish_uri: str) -> tuple[StoredFile, ...]:
    # The folder is this attempt's own, so what lies there is what an interrupted try has left.
    store.delete([info.uri for info in store.list(publish_uri)])
    return upload_folder(store, output, publish_uri)


def _patiently(work: Callable[[], T], cancelled: threading.Event) -> T:
    """``work``'s result, tried again while the store is away: hours of computing are not thrown away for minutes."""
    give_up, pause = time.monotonic() + _STORE_PATIENCE_S, 0.5
    while True:
        if cancelled.is_set():
            raise _Cancelled
        try:
            return work()
        except DependencyDown as error:
            if time.monotonic() > give_up:
                raise
            log.warning("store_away", detail=error.detail)
            cancelled.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)


def _reporter() -> Callable[[Progress], None]:
    """Reports on what was standard output; anything else that prints there goes to standard error instead."""
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def report(progress: Progress) -> None:
        reports.write(progress_line(progress) + "\n")

    return report


def _end_with_supervisor(folder: Path) -> None:
    while os.read(0, 1024):
        pass
    shutil.rmtree(folder, ignore_errors=True)  # it holds personal data, and nobody else will remove it
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
