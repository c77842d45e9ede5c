"""One run in two processes, started by torchrun's launcher: what it computes, and how it ends."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from core.unlearning.job import JOB_FILE, Outcome, parse_progress, read_outcome, write_json
from tests.builders.joint_rank import STEPS_BEFORE_THE_END
from tests.builders.models import Built
from tests.builders.waiting import wait_until
from tests.unit.unlearning.jobs import Told, job_of, sets_of, start
from tests.unit.unlearning.places import write_selection

pytestmark = pytest.mark.integration

TOLERANCE = 1e-5
"""Of a weight, in units of the largest: float32 sums in another order, carried through the steps."""


@dataclass
class Launched:
    """What became of the jobs of ``tests.builders.launching``."""

    folder: Path
    lines: list[str]
    ranks: list[int]
    """The last two processes' ids, when the launcher has been killed."""

    def outcome(self, name: str) -> Outcome:
        return read_outcome(self.folder / f"{name}.json")


@pytest.fixture(scope="module")
def alone(digits: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Told, Path]:
    """The same job by a single process."""
    folder = tmp_path_factory.mktemp("alone")
    return *start(digits, sets_of(digits, "writer-03"), folder, job=job_of(digits, max_steps=6)), folder


@pytest.fixture(scope="module")
def launched(digits: Built, tmp_path_factory: pytest.TempPathFactory) -> Launched:
    folder = tmp_path_factory.mktemp("together")
    write_json(folder / JOB_FILE, job_of(digits, max_steps=6, devices="all"))
    write_selection(folder / "selection.parquet", sets_of(digits, "writer-03"))
    shutil.copytree(digits.model, folder / "model")
    shutil.copy(digits.records, folder / "records.parquet")
    command = [sys.executable, "-m", "tests.builders.launching", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as launcher:
        ranks = [folder / f"rank-{rank}" for rank in range(2)]
        try:
            wait_until(ended_or(launcher, lambda: (folder / "terminated.json").exists()), timeout_s=180)
            wait_until(ended_or(launcher, lambda: all(rank.exists() for rank in ranks)))
        finally:
            launcher.kill()
        assert launcher.stdout is not None
        lines = launcher.stdout.read().decode().splitlines()
    return Launched(folder, lines, [int(rank.read_text()) for rank in ranks])


def ended_or(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> Callable[[], bool]:
    def look() -> bool:
        assert process.poll() is None, "the launcher ended"
        return condition()

    return look


def test_two_processes_unlearn_what_one_unlearns(alone: tuple[Outcome, Told, Path], launched: Launched) -> None:
    theirs, told, folder = alone
    ours = launched.outcome("together")
    assert ours.stop_reason == theirs.stop_reason
    assert ours.worker["processes"] == 2
    weights = [load_file(where / "model.safetensors") for where in (launched.folder / "output", folder / "out")]
    for name, weight in weights[1].items():
        assert float((weights[0][name] - weight).abs().max()) <= TOLERANCE * max(1.0, float(weight.abs().max()))
    assert metrics(ours) == pytest.approx(metrics(theirs), rel=1e-3)
    assert len(told.rows) == 6


def metrics(outcome: Outcome) -> dict[str, float]:
    assert outcome.metrics is not None
    return {f"{when} {what}": outcome.metrics[when][what]["loss"] for when in ("before", "after") for what in SETS}


SETS = ("forget", "retain", "holdout")


def test_the_first_process_reports_each_step_once(alone: tuple[Outcome, Told, Path], launched: Launched) -> None:
    found = [report for line in launched.lines if (report := parse_progress(line)) is not None]
    rows = [report.row for report in found if report.row is not None]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(rows, alone[1].rows, strict=True):
        assert ours["verdict"] == theirs["verdict"]
        assert ours["forget_loss"] == pytest.approx(theirs["forget_loss"], rel=1e-4)


def test_one_that_is_told_to_stop_stops_both(launched: Launched) -> None:
    assert [(launched.folder / f"stopped-{rank}").read_text() for rank in range(2)] == ["cancelled", "cancelled"]
    assert not (launched.folder / "unwanted").exists()
    assert STEPS_BEFORE_THE_END < 6


def test_a_killed_process_ends_the_others_as_a_crash_to_be_tried_again(launched: Launched) -> None:
    failure = launched.outcome("killed").failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("killed", True)


def test_sigterm_reaches_all_and_is_no_failure(launched: Launched) -> None:
    assert launched.outcome("terminated") == Outcome(stop_reason="cancelled")


def test_no_process_outlives_the_child(launched: Launched) -> None:
    wait_until(lambda: not any(psutil.pid_exists(rank) for rank in launched.ranks), what="the end of both")
