"""How soon a run on a large data set takes its first step, how much memory that needs, and how fast minibatches come.

    OMP_NUM_THREADS=1 python -m benchmarks.data_path [--rows N] [--row-group N] [--database-url URL]

It writes a Parquet file of grey 16×16 PNG images (2,500 different ones, stored again and again), a tenth held
out, and forgets 100 records with a ResNet so small that the data decide. Three things are measured, each in a process
of its own: writing the selection from an index in PostgreSQL (only with ``--database-url``; a scratch database of its
own); the job from its start to its first step with the default policy's sizes; retain minibatches of 128 with a
training step on each, read ahead or in between. Seconds and rates are by the wall and by processor time, for busy
machines. Prints one JSON object; the aim is a first step within seconds and memory that grows with the rows by their
places alone.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from sqlalchemy import text
from transformers import ResNetConfig, ResNetForImageClassification

from benchmarks.dataset_index import scratch_database
from core.access.tables import Workspace
from core.datasets.records import Records
from core.datasets.selection import SelectionWriter
from core.datasets.tables import Dataset as DatasetRow
from core.platform.database import transaction
from core.unlearning.batches import RetainBatches
from core.unlearning.images import image_family
from core.unlearning.job import DatasetSource, Job, Parameters, Progress
from core.unlearning.models import load_model
from core.unlearning.records import Dataset
from core.unlearning.run import run_job
from core.unlearning.selection import read_selection

FORGET = 100
COLUMNS = {"record_id": "id", "image": "png", "label": "label"}
BATCH = 128
BATCHES = 96


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds since it was made: by the wall, and of this process's processor time."""

    wall: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)

    def read(self) -> dict[str, float]:
        """Rounded to hundredths."""
        return {
            "wall": round(time.perf_counter() - self.wall, 2),
            "processor": round(time.process_time() - self.processor, 2),
        }


class FirstStep(Exception):
    """All that was to be measured."""


def build(folder: Path, rows: int, row_group: int) -> None:
    """The data set's file, the selection and the model."""
    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[8], depths=[1], layer_type="basic",
        downsample_in_first_stage=True, num_labels=10,
    )  # fmt: skip
    torch.manual_seed(0)
    ResNetForImageClassification(config).save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    images = [png(rng) for _ in range(2500)]
    schema = pa.schema({"id": pa.string(), "png": pa.binary(), "label": pa.int64()})
    with pq.ParquetWriter(folder / "records.parquet", schema, use_dictionary=False) as writer:
        for first in range(0, rows, row_group):
            numbers = range(first, min(rows, first + row_group))
            pictures = [images[i % len(images)] for i in numbers]
            columns = {"id": [name(i) for i in numbers], "png": pictures, "label": [i % 10 for i in numbers]}
            writer.write_table(pa.table(columns, schema), row_group_size=row_group)
    with SelectionWriter(folder / "selection.parquet") as writer:
        writer.write("forget", places(range(1, 10 * FORGET, 10)))
        writer.write("holdout", places(range(0, rows, 10)))
        writer.write("retain", places(i for i in range(rows) if i % 10 > 1 or (i % 10 and i >= 10 * FORGET)))


def places(numbers: Iterable[int]) -> list[tuple[str, int, int]]:
    """Rows of the one file."""
    return [(name(i), 0, i) for i in numbers]


def name(number: int) -> str:
    """A record's id."""
    return f"record-{number:09d}"


def png(rng: np.random.Generator) -> bytes:
    """A picture of noise."""
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def job_of() -> Job:
    """The job with the default policy, but for a target that an untrained model has not reached before it begins."""
    source, parameters = DatasetSource("parquet", COLUMNS, (), ""), Parameters(forget_target_ratio=2.0)
    return Job("run_benchmark", 1, "unlearn", "image-classification", (), source, parameters, "", device="cpu")


def first_step(folder: Path) -> dict[str, Any]:
    """Seconds from the job's start to the end of its assessment and to the first row of the ledger; memory."""
    before, clock, reached = peak_mib(), Clock(), dict[str, Any]()

    def report(progress: Progress) -> None:
        if progress.phase == "unlearning":
            reached["first_step" if progress.row else "assessed"] = clock.read()
        if progress.row is not None:
            raise FirstStep

    with suppress(FirstStep):
        run_job(
            job_of(),
            model_dir=folder / "model",
            dataset_files=[folder / "records.parquet"],
            selection=folder / "selection.parquet",
            output_dir=folder / "out",
            report=report,
            cancelled=lambda: False,
        )
    return {**reached, "peak_mib": peak_mib(), "peak_mib_before": before}


def minibatches(folder: Path) -> dict[str, Any]:
    """Rows a second over some windows of retain minibatches, each followed by a training step."""
    job = job_of()
    selection = read_selection(folder / "selection.parquet", files=1)
    model = load_model(folder / "model", "image-classification", torch.device("cpu"))
    family = image_family(model.folder, model.config, columns=COLUMNS, image_shape=None)
    dataset = Dataset(job.dataset, [folder / "records.parquet"], family.columns)

    def rate(*, step: bool) -> dict[str, float]:
        batches = RetainBatches(dataset, family, selection.retain, batch_size=BATCH, seed=0)
        clock = Clock()
        for examples in islice(batches, BATCHES):
            if step:
                batch = family.collate(examples, model.device)
                F.cross_entropy(model.model(**batch.inputs).logits, batch.labels).backward()
        return {name: round(BATCH * BATCHES / seconds) for name, seconds in clock.read().items()}

    found: dict[str, Any] = {"reading_alone": rate(step=False), "stepping_and_reading_ahead": rate(step=True)}
    with patch("core.unlearning.batches.ahead", lambda items: items):
        found["stepping_and_reading_between"] = rate(step=True)
    return found


def selecting(folder: Path, url: str, rows: int) -> dict[str, Any]:
    """Seconds for the selection file of a data set that has just been indexed."""
    with scratch_database(url, folder) as engine, transaction(engine) as tx:
        tx.add(Workspace(id="ws", name="ws"))
        tx.flush()
        tx.add(
            DatasetRow(
                id="ds", workspace_id="ws", name="d", task="image-classification", format="parquet", columns=COLUMNS,
                prompt_template="", source_uri="file:///", status="ready", fingerprint="", counts={},
            )
        )  # fmt: skip
        tx.flush()
        tx.execute(
            text(
                "insert into records (dataset_id, record_id, split, file, row) select 'ds',"
                " 'record-' || lpad(i::text, 9, '0'), case when i % 10 = 0 then 'test' else 'train' end, 0, i"
                " from generate_series(0, :rows - 1) i"
            ),
            {"rows": rows},
        )
        clock = Clock()
        forget = [name(i) for i in range(1, 10 * FORGET, 10)]
        Records(tx).write_selection("ds", forget, folder / "from-index.parquet")
        return {"selection": clock.read(), "selection_peak_mib": peak_mib()}


def peak_mib() -> int:
    """The most memory this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage would count the parent's as well
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def apart(*arguments: str) -> dict[str, Any]:
    """What this module measures in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.data_path", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Build, measure apart, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-group", type=int, default=100_000)
    parser.add_argument("--database-url")
    parser.add_argument("--only", choices=["first-step", "minibatches", "selection"], help="one part, in this process")
    parser.add_argument("--folder", type=Path, help="where --only finds what was built")
    given = parser.parse_args()
    if given.only:
        parts = {
            "first-step": lambda: first_step(given.folder),
            "minibatches": lambda: minibatches(given.folder),
            "selection": lambda: selecting(given.folder, given.database_url, given.rows),
        }
        print(json.dumps(parts[given.only]()))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build(folder, given.rows, given.row_group)
        found: dict[str, Any] = {
            "rows": given.rows,
            "row_group": given.row_group,
            "file_mib": (folder / "records.parquet").stat().st_size // 2**20,
            "load": os.getloadavg()[0],
            "torch": torch.__version__,
            "first_step": apart("--only", "first-step", "--folder", scratch),
            "rows_a_second": apart("--only", "minibatches", "--folder", scratch),
        }
        if given.database_url:
            rest = ("--folder", scratch, "--rows", str(given.rows), "--database-url", given.database_url)
            found |= apart("--only", "selection", *rest)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
