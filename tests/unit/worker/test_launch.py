"""Among how many processes a run is divided."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from core.unlearning.job import DatasetSource, Job, Parameters
from worker import launch


def job(devices: str, device: str, processes: int | None = None) -> Job:
    source = DatasetSource("parquet", {}, (), "")
    parameters = Parameters(devices=devices)
    return Job(
        "run_1", 1, "unlearn", "image-classification", (), source, parameters, "", device=device, processes=processes
    )


@pytest.mark.parametrize(
    ("given", "gpus", "expected"),
    [
        (job("one", "auto", 4), 4, 1),
        (job("all", "cuda:1", 4), 4, 1),
        (job("all", "auto"), 4, 4),
        (job("all", "cuda"), 2, 2),
        (job("all", "auto", 2), 4, 2),
        (job("all", "auto"), 0, 1),
        (job("all", "cpu"), 4, 1),
        (job("all", "cpu", 3), 4, 3),
    ],
)
def test_a_run_is_divided_among_what_the_worker_was_given(
    given: Job, gpus: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert launch.processes_of(given) == expected


@pytest.mark.parametrize(
    ("exit_codes", "telling"),
    [([-15, -9], -9), ([1, -9], -9), ([-9, -11], -11), ([1, -15], 1), ([-15, -15], -15), ([-6, 1], -6)],
)
def test_what_the_launcher_did_itself_does_not_hide_why_processes_ended(exit_codes: list[int], telling: int) -> None:
    assert launch.telling(exit_codes) == launch.telling(reversed(exit_codes)) == telling


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cuda", 1), ("auto", 1)])
def test_more_processes_than_gpus_are_refused(
    device: str, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    asked = replace(job("all", device), processes=2)
    outcome = launch.run_together(asked, tmp_path, [], None, 2, threading.Event())  # pyright: ignore[reportArgumentType]
    assert outcome.failure is not None
    assert outcome.failure.code == "no_device"
    assert "UNLEARN_WORKER__PROCESSES" in outcome.failure.message
