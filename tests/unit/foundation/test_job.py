"""Worker and child understand each other: what one writes, the other reads back unchanged."""

from dataclasses import replace
from pathlib import Path

from core.unlearning.job import (
    Checkpointing,
    DatasetSource,
    Failure,
    Job,
    Outcome,
    Parameters,
    Progress,
    StoredFile,
    parse_progress,
    progress_line,
    read_job,
    read_outcome,
    write_json,
)

FILE = StoredFile("model.safetensors", "s3://bucket/model.safetensors", 3, "ab" * 32)


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    dataset = DatasetSource("parquet", {"record_id": "id", "image": "png"}, (FILE,), "ff", image_shape=(8, 8, 1))
    job = Job("run_1", 2, "unlearn", "image-classification", (FILE,), dataset, Parameters(seed=7), "s3://bucket/v2/")
    limits = {"gap_closed": {"at_least": 0.6, "severity": "advisory"}}
    for one in (
        job,
        replace(job, limits=limits),
        replace(job, checkpoints=Checkpointing("s3://bucket/c/", "ab" * 32, every_s=1.5, every_steps=2)),
    ):
        write_json(tmp_path / "job.json", one)
        assert read_job(tmp_path / "job.json") == one


def test_an_outcome_survives_its_file(tmp_path: Path) -> None:
    gate = {"name": "retain_accuracy_drop", "limit": 0.01, "value": 0.0, "passed": True}
    judged = Outcome(
        verdict="failed",
        verdict_reasons=("Too far.",),
        records=({"record_id": "r-1", "loss_after": 1.0},),
        unmet_targets=({"name": "membership_auc", "value": 0.6, "limit": 0.55, "reason": "No steps left."},),
    )
    outcome = replace(judged, stop_reason="target_reached", gates=(gate,), staged=(FILE,), failure=None)
    write_json(tmp_path / "outcome.json", outcome)
    assert read_outcome(tmp_path / "outcome.json") == outcome
    failed = Outcome(failure=Failure("out_of_memory", "The device is too small.", retryable=True))
    write_json(tmp_path / "outcome.json", failed)
    assert read_outcome(tmp_path / "outcome.json") == failed


def test_a_stray_print_is_not_taken_for_progress() -> None:
    progress = Progress("unlearning", step=3, max_steps=10, row={"loss": 0.5})
    assert parse_progress(progress_line(progress)) == progress
    for line in ("Loading weights: 100%", "[1, 2]", "{}", '{"phase": "unlearning", "surprise": 1}'):
        assert parse_progress(line) is None
