"""Does a run with the default policy reach its target? Models that know their data by heart forget one person each.

    OMP_NUM_THREADS=1 python -m benchmarks.reaching_target --models digits noisy people --seeds 10 11 12 20 21 22
    OMP_NUM_THREADS=1 python -m benchmarks.reaching_target --models tofu --data DIR --share 0.1 --control

Builds each model from its seed, unlearns a few people or a share of all people from it with default parameters, several
times, and prints a line a run and a summary a model. Nothing is tuned to a model. DIR has ``tofu/full.parquet``.

With --control each model is also trained anew without these people (the method ``retrain``, by the recipe that made the
model), and a run must then meet the whole goal: forget loss within 20 % of the matched holdout's; membership AUC no
farther from 0.5 than halfway from where it was, or than chance takes so few records; within 0.1 of 0.5 where the
control's is; retain and holdout accuracy down by at most a point; a fifth of the control's time.
Seconds are of the processor: on a machine that others use, the clock on the wall says nothing.
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.measuring import processor_clock
from benchmarks.memorised import Recipe, with_tofu
from core.unlearning.job import DatasetSource, Job, Outcome, Parameters
from core.unlearning.run import run_job
from core.unlearning.targets import auc_tolerance
from tests.builders.models import Built

PEOPLE_A_MODEL = 3


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
        assert self.outcome.metrics is not None
        (ratio,) = (gate["value"] for gate in self.outcome.gates if gate["name"] == "forget_loss_ratio")
        away, matched = abs(self.auc() - 0.5), self.outcome.metrics["matching"]
        compared = round(matched["matched_share"] * self.outcome.forget_records)
        chance = auc_tolerance(compared, matched["matched_records"], Parameters(membership_auc_tolerance=0.0))
        met = {
            "loss": ratio is not None and 0.8 <= ratio <= 1.2,
            "halfway": away <= max(abs(self.auc("before") - 0.5) / 2, chance),
            "under 0.6": away < 0.1 or abs(control.auc() - 0.5) >= 0.1,
            "retain": self.retain_drop <= 0.01,
            "holdout": self.holdout_drop <= 0.01,
            "time": self.outcome.timings["unlearn_s"] <= control.outcome.timings["unlearn_s"] / 5,
        }
        return [name for name, holds in met.items() if not holds]

    @property
    def stopped_by(self) -> Sequence[str]:
        """Gates that failed and count, or (with a question mark) that a verdict needs and were undecided."""
        return [
            str(gate["name"]) + ("?" if gate["status"] == "undecided" else "")
            for gate in self.outcome.gates
            if (gate["status"] == "failed" and gate["severity"] in ("required", "important"))
            or (gate["status"] == "undecided" and gate["severity"] == "required")
        ]

    @property
    def passed(self) -> bool:
        good = self.outcome.verdict in ("passed", "passed_with_warnings")
        return self.outcome.stop_reason == "target_reached" and good

    @property
    def ratio(self) -> float:
        """Forget loss over holdout loss of the model that the run made."""
        return self.loss("after", "forget") / self.loss("after", "holdout")


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
    return random.Random(seed).sample(_trained(built, by), count)


def forget_sets(built: Built, seed: int, times: int, share: float) -> Sequence[Sequence[str]]:
    """So many groups of people, each a share of all of them (one at least), disjoint as far as there are enough."""
    people = _trained(built, "subject_id")
    size = max(1, round(share * len(people)))
    drawn = random.Random(seed).sample(people, min(len(people), times * size))
    return [drawn[i : i + size] for i in range(0, len(drawn) - size + 1, size)]


def _trained(built: Built, by: str) -> list[str]:
    """Everybody (or every record) that the model was trained on, in order."""
    table = pq.read_table(built.records)
    pairs = zip(table[built.columns[by]].to_pylist(), table["split"].to_pylist(), strict=True)
    return sorted({owner for owner, split in pairs if split == "train"})


def unlearn(
    model: str,
    seed: int,
    built: Built,
    people: Sequence[str],
    folder: Path,
    parameters: Parameters | None = None,
    *,
    earlier: Mapping[str, str] | None = None,
) -> Result:
    """One run in ``folder``, with default parameters unless others are given; ``earlier`` as in ``select``."""
    steps = 0

    def count(progress: object) -> None:
        nonlocal steps
        steps += getattr(progress, "row", None) is not None

    began = time.perf_counter()
    outcome = run_for(built, people, folder, count, earlier=earlier, parameters=parameters)
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
    return run_job(
        job_for(built, parameters or Parameters()),
        model_dir=built.model,
        dataset_files=[built.records],
        selection=folder / "selection.parquet",
        output_dir=folder / "output",
        report=report,
        cancelled=lambda: False,
    )


def job_for(built: Built, parameters: Parameters) -> Job:
    """An unlearning job on one CPU thread; its files are given beside it."""
    task = "image-classification" if built.task == "image-classification" else "causal-lm"
    source = DatasetSource("parquet", dict(built.columns), (), "", built.image_shape)
    return Job("run_benchmark", 1, "unlearn", task, (), source, parameters, "", device="cpu", threads=1)


def _print_run(result: Result) -> None:
    print(
        f"{result.model:7} seed {result.seed:2} {result.person:11} {result.outcome.stop_reason:25}"
        f" {result.steps:4} steps {result.seconds:5.1f} s  forget {result.loss('before', 'forget'):.4f}"
        f" -> {result.loss('after', 'forget'):.4f}  over holdout {result.ratio:.2f}"
        f"  retain accuracy drop {100 * result.retain_drop:+.2f} pp, holdout {100 * result.holdout_drop:+.2f} pp"
        f"  AUC {result.auc('before'):.2f} -> {result.auc():.2f}"
        f"  {result.outcome.verdict} {' '.join(result.stopped_by)}"
        f"  missed: {', '.join(target['name'] for target in result.outcome.unmet_targets) or 'nothing'}",
        flush=True,
    )


def _print_control(result: Result, control: Result) -> None:
    ours, theirs = (one.outcome.timings["unlearn_s"] for one in (result, control))
    missed = ", ".join(result.missed(control)) or "nothing"
    print(
        f"        trained anew: forget over holdout {control.ratio:.2f}, AUC {control.auc():.2f},"
        f" holdout accuracy drop {100 * control.holdout_drop:+.2f} pp, {theirs:.1f} s;"
        f" the run took {ours / theirs:.2f} of that; of the goal missed: {missed}",
        flush=True,
    )


def _print_summary(results: Sequence[Result], controls: Sequence[Result]) -> None:
    ratios = [result.ratio for result in results]
    steps = [result.steps for result in results]
    drop = 100 * max(result.retain_drop for result in results)
    passed = sum(result.passed for result in results)
    print(
        f"{results[0].model}: {passed} of {len(results)} reached the target and failed no gate that counts;"
        f" {min(steps)}-{max(steps)} steps; forget over holdout loss {min(ratios):.2f}-{max(ratios):.2f};"
        f" AUC {min(result.auc() for result in results):.2f}-{max(result.auc() for result in results):.2f};"
        f" largest retain accuracy drop {drop:.2f} pp"
    )
    if controls:
        missed = [result.missed(control) for result, control in zip(results, controls, strict=True)]
        each = Counter(name for names in missed for name in names)
        print(
            f"{results[0].model}: {sum(not names for names in missed)} of {len(missed)} met the whole goal; missed:"
            f" {', '.join(f'{name} {count}' for name, count in each.most_common()) or 'nothing'}"
        )


def measure(model: str, recipe: Recipe, seed: int, options: argparse.Namespace) -> list[tuple[Result, Result | None]]:
    """The runs over one model, each with its control if one is asked for, printed as they end."""
    found: list[tuple[Result, Result | None]] = []
    with tempfile.TemporaryDirectory() as place, processor_clock():
        folder = Path(place)
        built = recipe.build(folder, seed)
        for number, people in enumerate(forget_sets(built, seed, options.times, options.share)):
            result, control = unlearn(model, seed, built, people, folder / f"{number}"), None
            _print_run(result)
            if options.control:
                control = _anew(result, built, people, folder / f"{number}-control", recipe)
            found.append((result, control))
    return found


def _anew(result: Result, built: Built, people: Sequence[str], folder: Path, recipe: Recipe) -> Result | None:
    """The control of a run, printed beside it; None where there can be none, and then that is printed."""
    control = unlearn(result.model, result.seed, built, people, folder, recipe.anew)
    if control.outcome.failure is not None:
        print(f"        no control: {control.outcome.failure.message}", flush=True)
        return None
    _print_control(result, control)
    return control


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["digits", "noisy", "people"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12])
    parser.add_argument("--times", type=int, default=PEOPLE_A_MODEL, help="forget sets a model")
    parser.add_argument("--share", type=float, default=0.0, help="of the people that are forgotten at once; 0: one")
    parser.add_argument("--data", type=Path, help="folder of public data sets")
    parser.add_argument("--control", action="store_true", help="also train each model anew without the people")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipes = with_tofu(options.data)
    left_out = [name for name in options.models if name not in recipes]
    if left_out:
        print(f"left out: {', '.join(left_out)} (not known, or --data has no tofu/full.parquet)")
    runs = {
        name: [run for seed in options.seeds for run in measure(name, recipes[name], seed, options)]
        for name in options.models
        if name in recipes
    }
    for found in runs.values():
        _print_summary([result for result, _ in found], [control for _, control in found if control])


if __name__ == "__main__":
    main()
