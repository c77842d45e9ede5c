"""Stands in for the GPU process where a test needs many runs: ``python -m tests.builders.quick_child FOLDER``.

It is ``worker.child`` in everything but the computing: it fetches, verifies, reports, stages and stops as that does,
and needs a second of it. The environment variable ``QUICK_CHILD`` names a folder by which a test leads it: while a
file with the name of a phase lies there, a run stays in that phase; while ``disk-full`` lies there, what it
writes meets the kernel's "No space left on device".
"""

import hashlib
import os
import shutil
import sys
import threading
from pathlib import Path

from core.platform.objects import ObjectStore
from core.unlearning.job import Job, Outcome, Progress
from tests.builders.quick_model import WEIGHTS
from worker.child import main
from worker.patience import ToldToStop
from worker.reports import Reports

STEPS = 6
_STEP_S = 0.02
_GLANCE_S = 0.05
HARDNESS = {"verdict": "easy"}
GATE = {
    "name": "retain_accuracy_drop", "group": "utility", "value": 0.0, "low": 0.0, "high": 0.0, "at_least": None,
    "at_most": 0.02, "limit": 0.02, "status": "passed", "severity": "required", "passed": True, "no_op": None,
    "no_op_status": None,
}  # fmt: skip


def compute(
    job: Job, folder: Path, _store: ObjectStore, _files: list[Path], report: Reports, cancelled: threading.Event
) -> Outcome:
    """The phases of a run and a few steps; new weights are the old ones with a mark of the attempt."""
    lead = Path(os.environ["QUICK_CHILD"])

    def stay(phase: str) -> None:
        while (lead / phase).exists() and not cancelled.is_set():
            cancelled.wait(_GLANCE_S)
        if cancelled.is_set():
            raise ToldToStop

    stay("preparing")
    report(Progress("assessing", hardness=HARDNESS))
    stay("assessing")
    for step in range(1, STEPS + 1):
        cancelled.wait(_STEP_S)
        report(Progress("unlearning", step, STEPS, 0.1, row={"step": step, "forget_loss": 0.1 * step}))
        stay("unlearning")
    report(Progress("evaluating"))
    stay("evaluating")
    _save(job, folder, full=(lead / "disk-full").exists())
    return Outcome(
        stop_reason="target_reached",
        hardness=HARDNESS,
        metrics={"before": {}, "after": {}},
        gates=(GATE,),
        verdict="passed",
        forget_records=2,
        retain_records=10,
    )


def _save(job: Job, folder: Path, *, full: bool) -> None:
    output = folder / "output"
    shutil.copytree(folder / "model", output, dirs_exist_ok=True)
    weights = bytearray((output / WEIGHTS).read_bytes())
    mark = hashlib.sha256(f"{job.run_id}-{job.attempt}".encode()).digest()
    weights[-len(mark) :] = mark
    (output / WEIGHTS).unlink()
    if full:
        (output / WEIGHTS).symlink_to("/dev/full")
    (output / WEIGHTS).write_bytes(weights)


if __name__ == "__main__":
    main(Path(sys.argv[1]), compute)
