"""Jobs on the tiny models, and what they told."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from core.unlearning.bench import Bench
from core.unlearning.job import DatasetSource, Job, Outcome, Parameters, Progress, Task
from core.unlearning.panel import Extras
from core.unlearning.preparing import prepare
from core.unlearning.run import run_job
from tests.builders.models import Built
from tests.unit.unlearning.places import write_selection


@dataclass
class Told:
    """What a job reported."""

    lines: list[Progress] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(line.row) for line in self.lines if line.row is not None]


def sets_of(built: Built, subject: str, *, holdout: bool = True) -> list[str]:
    table = pq.read_table(built.records).to_pylist()
    split, who = built.columns["split"], built.columns["subject_id"]
    other = "holdout" if holdout else ""
    return [other if row[split] != "train" else "forget" if row[who] == subject else "retain" for row in table]


def job_of(built: Built, **parameters: Any) -> Job:
    task: Task = "causal-lm" if built.task == "causal-lm" else "image-classification"
    source = DatasetSource("parquet", built.columns, (), "", built.image_shape)
    return Job("run_1", 1, "unlearn", task, (), source, Parameters(**parameters), "", device="cpu")


def start(
    built: Built,
    sets: Sequence[str],
    folder: Path,
    *,
    job: Job | None = None,
    files: Sequence[Path] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Outcome, Told]:
    folder.mkdir(exist_ok=True)
    told = Told()
    outcome = run_job(
        job or job_of(built),
        model_dir=built.model,
        dataset_files=files or [built.records],
        selection=write_selection(folder / "selection.parquet", sets),
        output_dir=folder / "out",
        report=told.lines.append,
        cancelled=cancelled,
    )
    json.dumps(asdict(outcome), allow_nan=False)
    return outcome, told


def prepared(built: Built, sets: Sequence[str], folder: Path, **parameters: Any) -> tuple[Job, Bench, Extras]:
    """A job on a tiny model as far as its run has it before anything is measured."""
    job = job_of(built, **parameters)
    bench, extras, _ = prepare(
        job,
        model_dir=built.model,
        dataset_files=[built.records],
        selection=write_selection(folder / "selection.parquet", sets),
        cancelled=lambda: False,
    )
    return job, bench, extras
