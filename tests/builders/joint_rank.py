"""One of two processes that do a job together, to its end and then once more until only the second is told to stop.

``python -m tests.builders.joint_rank FOLDER DATASET_FILE``, in place of ``worker.rank``.
"""

import sys
from pathlib import Path

import torch

from core.unlearning.job import JOB_FILE, SELECTION_FILE, Outcome, Progress, read_job, write_json
from core.unlearning.ranks import Ranks, joined
from core.unlearning.run import run_job
from worker.launch import result_file
from worker.reports import Reports, end_with_input

STEPS_BEFORE_THE_END = 2


def main(folder: Path, files: list[Path]) -> None:
    torch.set_num_threads(1)
    end_with_input(folder)
    report = Reports()
    with joined(torch.device("cpu")) as ranks:
        outcome = once(folder, files, ranks, report, until=None)
        write_json(result_file(folder, ranks.rank), outcome)
        stopped = once(folder, files, ranks, report, until=STEPS_BEFORE_THE_END)
        (folder / f"stopped-{ranks.rank}").write_text(str(stopped.stop_reason))


def once(folder: Path, files: list[Path], ranks: Ranks, report: Reports, *, until: int | None) -> Outcome:
    steps = 0

    def told(progress: Progress) -> None:
        nonlocal steps
        steps = progress.step or 0
        if ranks.leads and until is None:
            report(progress)

    return run_job(
        read_job(folder / JOB_FILE),
        model_dir=folder / "model",
        dataset_files=files,
        selection=folder / SELECTION_FILE,
        output_dir=folder / ("output" if until is None else "unwanted"),
        report=told,
        cancelled=lambda: until is not None and ranks.rank == 1 and steps >= until,
        ranks=ranks,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(file) for file in sys.argv[2:]])
