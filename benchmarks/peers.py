"""Every method on the same deletion: what it reached, at what cost, in how many steps and seconds.

    OMP_NUM_THREADS=1 python -m benchmarks.peers DIR [--methods a,b] [--family digits|people] [--seed N]
        [--set name=value …]

Trains a tiny model in ``DIR/<family>-<seed>`` unless it lies there already, forgets one writer (or person) with each
method at the default parameters and prints a table. ``--set`` gives parameters other values, for every method.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.unlearning.job import METHODS, DatasetSource, Job, Outcome, Parameters
from core.unlearning.run import run_job
from tests.builders.models import Built, digits_classifier, people_lm

_SUBJECTS = {"digits": "writer-03", "people": "person-002"}
_COLUMNS = ("method", "ended", "steps", "forget", "holdout", "share", "retain acc", "drop", "AUC", "gates", "seconds")
_TABLE = "{:<16} {:<24} {:>5} {:>15} {:>13} {:>6} {:>10} {:>7} {:>11} {:>5} {:>7}"


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--family", choices=_SUBJECTS, default="digits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="name=value")
    chosen = parser.parse_args()
    settings = dict(_setting(text) for text in chosen.set)
    built = _built(chosen.folder / f"{chosen.family}-{chosen.seed}", chosen.family, chosen.seed)
    print(_TABLE.format(*_COLUMNS))
    for method in chosen.methods.split(","):
        outcome, steps, seconds = _run(built, _SUBJECTS[chosen.family], {**settings, "method": method})
        print(_line(method, outcome, steps, seconds))
        sys.stdout.flush()


def _setting(text: str) -> tuple[str, float | int]:
    name, _, value = text.partition("=")
    return name, int(value) if value.lstrip("-").isdigit() else float(value)


def _built(folder: Path, family: str, seed: int) -> Built:
    if not (folder / "records.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        return (digits_classifier if family == "digits" else people_lm)(folder, seed)
    columns = {name: name for name in ("record_id", "split")}
    if family == "digits":
        columns |= {"subject_id": "subject_id", "image": "image", "label": "label"}
        return Built(folder / "model", folder / "records.parquet", "image-classification", columns, (8, 8, 1))
    columns |= {"subject_id": "author", "prompt": "prompt", "response": "response"}
    return Built(folder / "model", folder / "records.parquet", "causal-lm", columns)


def _run(built: Built, subject: str, parameters: Mapping[str, Any]) -> tuple[Outcome, int, float]:
    source = DatasetSource("parquet", built.columns, (), "", built.image_shape)
    job = Job("run_1", 1, "unlearn", built.task, (), source, Parameters(**parameters), "", device="cpu")  # pyright: ignore
    steps = [0]
    started = time.perf_counter()
    with TemporaryDirectory() as name:
        outcome = run_job(
            job,
            model_dir=built.model,
            dataset_files=[built.records],
            selection=_selection(built, subject, Path(name) / "selection.parquet"),
            output_dir=Path(name) / "out",
            report=lambda line: steps.append(line.step or steps[-1]),
            cancelled=lambda: False,
        )
    return outcome, steps[-1], outcome.timings.get("unlearn_s", time.perf_counter() - started)


def _selection(built: Built, subject: str, path: Path) -> Path:
    rows = pq.read_table(built.records).to_pylist()
    split, who = built.columns["split"], built.columns["subject_id"]
    sets = ["holdout" if r[split] != "train" else "forget" if r[who] == subject else "retain" for r in rows]
    chosen = sorted((name, row) for row, name in enumerate(sets))
    table = {
        "set": [name for name, _ in chosen],
        "record_id": [f"r{row}" for _, row in chosen],
        "file": pa.array([0] * len(chosen), pa.int32()),
        "row": pa.array([row for _, row in chosen], pa.int64()),
    }
    pq.write_table(pa.table(table), path)
    return path


def _line(method: str, outcome: Outcome, steps: int, seconds: float) -> str:
    if outcome.failure is not None or outcome.metrics is None:
        return f"{method:<16} {outcome.failure}"
    before, after = outcome.metrics["before"], outcome.metrics["after"]
    gates = {gate["name"]: gate for gate in outcome.gates}
    share, drop = gates["forget_loss_ratio"]["value"], gates["retain_accuracy_drop"]["value"]
    ended = f"{outcome.stop_reason}{' (back)' if after['rolled_back'] else ''}"
    return _TABLE.format(
        method,
        ended,
        steps,
        f"{before['forget']['loss']:.4f}→{after['forget']['loss']:.4f}",
        f"{before['holdout']['loss']:.3f}→{after['holdout']['loss']:.3f}",
        f"{share:.2f}",
        f"{after['retain']['accuracy']:.4f}",
        f"{drop:+.4f}",
        f"{before['membership_auc']:.2f}→{after['membership_auc']:.2f}",
        f"{sum(gate['passed'] for gate in outcome.gates)}/{len(outcome.gates)}",
        f"{seconds:.1f}",
    )


if __name__ == "__main__":
    main()
