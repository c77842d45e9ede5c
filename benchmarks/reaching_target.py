"""Does a run with the default policy reach its target? Models that know their data by heart forget one person each.

    OMP_NUM_THREADS=1 python -m benchmarks.reaching_target --models digits noisy people --seeds 10 11 12 20 21 22

Builds each model from its seed, unlearns three people from it with default parameters, and prints a line a run and a
summary a model. Nothing is tuned to a model; seeds that were used to choose the loop's constants are 0, 1 and 2.

With --control each model is also trained anew without the person (the method ``retrain``, at the rate and for the
epochs given), and a run must then meet the whole goal: forget loss within 20 % of the matched holdout's, membership AUC
no farther from 0.5 than halfway from where it was, and within 0.1 of it where the control's is, retain and holdout
accuracy down by at most a point, in a fifth of the control's time.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from core.unlearning.job import DatasetSource, Job, Outcome, Parameters
from core.unlearning.run import run_job
from tests.builders import models
from tests.builders.models import Built

PEOPLE_A_MODEL = 3
WRONG_LABELS = 0.15


@dataclass(frozen=True, slots=True)
class Result:
    """One run: its outcome, how many steps it took, and its wall time."""

    model: str
    seed: int
    person: str
    outcome: Outcome
    steps: int
    seconds: float

    def loss(self, when: str, which: str) -> float:
        assert self.outcome.metrics is not None
        return float(self.outcome.metrics[when][which]["loss"])

    @property
    def retain_drop(self) -> float:
        assert self.outcome.metrics is not None
        before, after = (self.outcome.metrics[when]["retain"]["accuracy"] for when in ("before", "after"))
        return float(before - after)

    def auc(self, when: str = "after") -> float:
        assert self.outcome.metrics is not None
        return float(self.outcome.metrics[when]["membership_auc"])

    @property
    def holdout_drop(self) -> float:
        assert self.outcome.metrics is not None
        before, after = (self.outcome.metrics[when]["holdout"]["accuracy"] for when in ("before", "after"))
        return float(before - after)

    def missed(self, control: "Result") -> list[str]:
        """What of the goal the run did not meet, beside a model trained without the person."""
        (ratio,) = (gate["value"] for gate in self.outcome.gates if gate["name"] == "forget_loss_ratio")
        away = abs(self.auc() - 0.5)
        met = {
            "loss": ratio is not None and 0.8 <= ratio <= 1.2,
            "halfway": away <= abs(self.auc("before") - 0.5) / 2,
            "under 0.6": away < 0.1 or abs(control.auc() - 0.5) >= 0.1,
            "retain": self.retain_drop <= 0.01,
            "holdout": self.holdout_drop <= 0.01,
            "time": self.outcome.timings["unlearn_s"] <= control.outcome.timings["unlearn_s"] / 5,
        }
        return [name for name, holds in met.items() if not holds]

    @property
    def passed(self) -> bool:
        good = self.outcome.verdict in ("passed", "passed_with_warnings")
        return self.outcome.stop_reason == "target_reached" and good

    @property
    def ratio(self) -> float:
        """Forget loss over holdout loss of the model that the run made."""
        return self.loss("after", "forget") / self.loss("after", "holdout")


def noisy_digits(
    folder: Path, seed: int, *, epochs: int = 120, wrong: float = WRONG_LABELS, writers: int = 40
) -> Built:
    """The digits classifier, with a share ``wrong`` of all labels drawn at random."""
    rng = np.random.default_rng(100 + seed)
    original = models.load_digits
    data = original()
    drawn = rng.random(len(data.target)) < wrong
    data.target[drawn] = rng.integers(10, size=int(drawn.sum()))
    models.load_digits = lambda: data  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return models.digits_classifier(folder, seed, epochs=epochs, writers=writers)
    finally:
        models.load_digits = original


MODELS: dict[str, Callable[[Path, int], Built]] = {
    "digits": models.digits_classifier,
    "noisy": noisy_digits,
    "people": models.people_lm,
    "lora": models.people_lora,
}


def select(
    built: Built,
    people: Collection[str],
    path: Path,
    by: str = "subject_id",
    *,
    earlier: Mapping[str, str] | None = None,
) -> None:
    """Write the selection of a run that forgets these people (or, by ``record_id``, records).

    earlier: the runs that forgot people before this one, by person.
    """
    table = pq.read_table(built.records)
    owners, splits = table[built.columns[by]].to_pylist(), table["split"].to_pylist()
    kinds = dict.fromkeys(earlier or {}, "earlier") | dict.fromkeys(people, "forget")
    sets = [
        kinds.get(owner, "retain") if split == "train" else "holdout"
        for owner, split in zip(owners, splits, strict=True)
    ]
    rows = range(len(sets))
    chosen = pa.table(
        {
            "set": sets,
            "record_id": table["record_id"],
            "file": pa.array([0] * len(sets), pa.int32()),
            "row": pa.array(rows, pa.int64()),
            "run_id": pa.array([(earlier or {}).get(owner) for owner in owners], pa.string()),
        }
    )
    pq.write_table(chosen.sort_by([("set", "ascending"), ("row", "ascending")]), path)


def people_of(built: Built, seed: int, count: int = PEOPLE_A_MODEL, by: str = "subject_id") -> Sequence[str]:
    """People (or, by ``record_id``, records) that the model was trained on, drawn by ``seed``."""
    table = pq.read_table(built.records)
    trained = {
        owner
        for owner, split in zip(table[built.columns[by]].to_pylist(), table["split"].to_pylist(), strict=True)
        if split == "train"
    }
    return random.Random(seed).sample(sorted(trained), count)


def unlearn(
    model: str, seed: int, built: Built, people: Sequence[str], folder: Path, parameters: Parameters | None = None
) -> Result:
    """One run in ``folder``, with default parameters unless others are given."""
    steps = 0

    def count(progress: object) -> None:
        nonlocal steps
        steps += getattr(progress, "row", None) is not None

    began = time.perf_counter()
    outcome = run_for(built, people, folder, count, parameters=parameters)
    return Result(model, seed, "+".join(people), outcome, steps, time.perf_counter() - began)


def run_for(
    built: Built,
    people: Collection[str],
    folder: Path,
    report: Callable[[object], None],
    *,
    by: str = "subject_id",
    earlier: Mapping[str, str] | None = None,
    parameters: Parameters | None = None,
) -> Outcome:
    """Unlearn these people in a new ``folder``, on one CPU thread, with default parameters unless others are given.

    The new model lies in its ``output``.
    """
    folder.mkdir()
    select(built, people, folder / "selection.parquet", by, earlier=earlier)
    task = "image-classification" if built.task == "image-classification" else "causal-lm"
    source = DatasetSource("parquet", dict(built.columns), (), "", built.image_shape)
    job = Job("run_benchmark", 1, "unlearn", task, (), source, parameters or Parameters(), "", device="cpu", threads=1)
    return run_job(
        job,
        model_dir=built.model,
        dataset_files=[built.records],
        selection=folder / "selection.parquet",
        output_dir=folder / "output",
        report=report,
        cancelled=lambda: False,
    )


def _print_run(result: Result) -> None:
    print(
        f"{result.model:7} seed {result.seed:2} {result.person:11} {result.outcome.stop_reason:25}"
        f" {result.steps:4} steps {result.seconds:5.1f} s  forget {result.loss('before', 'forget'):.4f}"
        f" -> {result.loss('after', 'forget'):.4f}  over holdout {result.ratio:.2f}"
        f"  retain accuracy drop {100 * result.retain_drop:+.2f} pp, holdout {100 * result.holdout_drop:+.2f} pp"
        f"  AUC {result.auc('before'):.2f} -> {result.auc():.2f}  {result.outcome.verdict}"
        f"  missed: {', '.join(target['name'] for target in result.outcome.unmet_targets) or 'nothing'}",
        flush=True,
    )


def _print_control(result: Result, control: Result) -> None:
    seconds = [one.outcome.timings["unlearn_s"] for one in (result, control)]
    print(
        f"        trained anew: AUC {control.auc():.2f}, {seconds[1]:.1f} s against {seconds[0]:.1f} s;"
        f" of the goal missed: {', '.join(result.missed(control)) or 'nothing'}",
        flush=True,
    )


def _print_summary(results: Sequence[Result]) -> None:
    ratios = [result.ratio for result in results]
    steps = [result.steps for result in results]
    drop = 100 * max(result.retain_drop for result in results)
    passed = sum(result.passed for result in results)
    print(
        f"{results[0].model}: {passed} of {len(results)} reached the target and failed no gate that counts;"
        f" {min(steps)}-{max(steps)} steps; forget over holdout loss {min(ratios):.2f}-{max(ratios):.2f};"
        f" largest retain accuracy drop {drop:.2f} pp"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=["digits", "noisy", "people"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12])
    parser.add_argument("--control", action="store_true", help="also train each model anew without the person")
    parser.add_argument("--epochs", type=int, default=60, help="of the control")
    parser.add_argument("--rate", type=float, default=3e-3, help="of the control")
    options = parser.parse_args()
    anew = Parameters(
        method="retrain", epochs=options.epochs, learning_rate=options.rate, retain_accuracy_budget=1.0, panel="basic"
    )
    torch.set_num_threads(1)
    summaries: list[list[Result]] = []
    for model in options.models:
        results: list[Result] = []
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                built = MODELS[model](Path(folder), seed)
                for person in people_of(built, seed):
                    results.append(unlearn(model, seed, built, [person], Path(folder) / person))
                    _print_run(results[-1])
                    if options.control:
                        control = unlearn(model, seed, built, [person], Path(folder) / f"{person}-control", anew)
                        _print_control(results[-1], control)
        summaries.append(results)
    for results in summaries:
        _print_summary(results)


if __name__ == "__main__":
    main()
