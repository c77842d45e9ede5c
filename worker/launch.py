"""One run in several processes of this machine, started by the child through torchrun's launcher.

The child fetches before and stages after; between, each process is ``worker.rank``. They lie in sessions of their own,
so a signal to the child's group does not reach them: the launcher passes SIGTERM on and ends all when one has failed,
and their standard input ends with the child.
"""

import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from core.unlearning.job import JOB_FILE, Failure, Job, Outcome, read_outcome, write_json
from worker.childprocess import crash
from worker.reports import Reports, lifeline

RANK = "worker.rank"
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def processes_of(job: Job) -> int:
    """Among how many processes the job is divided here: as many as it says, or one for each GPU that torch sees."""
    if job.parameters.devices != "all" or job.device.startswith("cuda:"):
        return 1
    return job.processes or (1 if job.device == "cpu" else max(1, torch.cuda.device_count()))


def run_together(
    job: Job,
    folder: Path,
    dataset_files: Sequence[Path],
    reports: Reports,
    processes: int,
    cancelled: threading.Event,
    *,
    module: str = RANK,
) -> Outcome:
    """What ``run_job`` returns, by ``processes`` of ``module``; every end that they can have is in the outcome.

    When memory runs out on one of them, all are started once more with half as many records at a time.
    """
    gpus = torch.cuda.device_count()
    if gpus < processes and (job.device == "cuda" or (job.device == "auto" and gpus)):
        message = f"UNLEARN_WORKER__PROCESSES asks for {processes} processes; this worker has {gpus} GPUs."
        return Outcome(failure=Failure("no_device", message, retryable=True))
    command = ("-m", module, str(folder), *map(str, dataset_files))
    outcome = _attempt(job, folder, command, reports, processes, cancelled)
    if outcome.failure is not None and outcome.failure.code == "out_of_memory":
        outcome = _attempt(job.halved(), folder, command, reports, processes, cancelled)
    return outcome


def result_file(folder: Path, rank: int) -> Path:
    """What that process has to say: the first one always, the others when they fail knowingly."""
    return folder / f"outcome-{rank}.json"


def _attempt(
    job: Job, folder: Path, command: Sequence[str], reports: Reports, processes: int, cancelled: threading.Event
) -> Outcome:
    write_json(folder / JOB_FILE, job)
    results = [result_file(folder, rank) for rank in range(processes)]
    for result in results:
        result.unlink(missing_ok=True)
    start = elastic_launch(_config(job, folder, processes), sys.executable)
    try:
        with _signals_given_back(), reports.handed_on(), lifeline():
            if not cancelled.is_set():
                start(*command)
    except SignalException:
        cancelled.set()
    except ChildFailedError as error:
        told = [read_outcome(result) for result in results if result.exists()]
        if known := [outcome for outcome in told if outcome.failure is not None]:
            return known[0]
        return Outcome(failure=crash(telling(failure.exitcode for failure in error.failures.values())))
    return Outcome(stop_reason="cancelled") if cancelled.is_set() else read_outcome(results[0])


def telling(exit_codes: Iterable[int]) -> int:
    """The one that says most about why processes ended together.

    The launcher ends those that are left by SIGTERM and at last by SIGKILL, and one that loses its peers fails in its
    own code. So any other signal comes first, then SIGKILL, then a code, then SIGTERM.
    """
    order = {-signal.SIGKILL: 1, -signal.SIGTERM: 3}
    return min(exit_codes, key=lambda code: order.get(code, 0 if code < 0 else 2))


def _config(job: Job, folder: Path, processes: int) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=job.run_id,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a port that the system picks
        local_addr="127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "launcher")),
    )


@contextmanager
def _signals_given_back() -> Iterator[None]:
    """The launcher takes signals for itself and keeps them."""
    before = {number: signal.getsignal(number) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
