"""How far can a quote be trusted? Predictions of many runs against what the runs then did.

    OMP_NUM_THREADS=1 python -m benchmarks.quote_calibration --seeds 30 --requests 10 --save fitting.jsonl
    python -m benchmarks.quote_calibration --load fitting.jsonl --ratios      # where the forecast's constants come from
    OMP_NUM_THREADS=1 python -m benchmarks.quote_calibration --seeds 31 32 --requests 10 --save held-out.jsonl
    python -m benchmarks.quote_calibration --load held-out.jsonl

Digits classifiers, fitted to various degrees and to labels of which some are drawn at random, forget 1 to 10 of 100
writers (about 1 to 10 % of their training data), and small language models 1 to 3 of 40 people, with default parameters
and the short panel. Prints, over all requests and by model, Spearman's rank correlation and the share of runs within
the quote's low to high. Requests whose quote predicts nothing are counted apart.

Seconds are of the processor, in the quotes as well as in the runs: on a machine that others use, the clock on the wall
says nothing about either.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.measuring import processor_clock
from benchmarks.memorised import noisy_digits
from benchmarks.reaching_target import job_for, people_of, select
from core.unlearning import hardness
from core.unlearning.job import Parameters
from core.unlearning.loop import Unlearning
from core.unlearning.panel import Panel
from core.unlearning.preparing import prepare
from core.unlearning.ranks import Ranks
from tests.builders.models import Built, digits_classifier, people_lm

EVALUATED = 300
"""Retain and holdout records that are looked at, each."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model is made, and of how many people it forgets at most."""

    build: Callable[[Path, int], Built]
    most: int


def _digits(epochs: int) -> Fit:
    return Fit(partial(digits_classifier, writers=100, epochs=epochs), 10)


def _noisy(wrong: float, epochs: int) -> Fit:
    return Fit(partial(noisy_digits, writers=100, epochs=epochs, wrong=wrong), 10)


def _people(epochs: int) -> Fit:
    return Fit(partial(people_lm, epochs=epochs), 3)


FITS: Mapping[str, Fit] = {
    "digits, 6 epochs": _digits(6),
    "digits, 12 epochs": _digits(12),
    "digits, 40 epochs": _digits(40),
    "noisy 5 %, 30 epochs": _noisy(0.05, 30),
    "noisy 15 %, 40 epochs": _noisy(0.15, 40),
    "people, 20 epochs": _people(20),
    "people, 60 epochs": _people(60),
}
PREDICTED = ("steps", "seconds", "retain_loss_change")

Case = Mapping[str, Any]
"""One request: ``fit``, ``seed``, ``people`` forgotten, ``stop_reason``, ``quote`` (the forecast), and what came:
``steps``, ``seconds`` (of the steps and looks), ``retain_loss_change`` (nats)."""


def requests(name: str, seed: int, count: int) -> Iterator[Case]:
    """So many requests to one model, each from its original weights."""
    rng = random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory() as place, processor_clock():
        folder = Path(place)
        built = FITS[name].build(folder, seed)
        for index in range(count):
            asked = people_of(built, 1000 * seed + index, rng.randint(1, FITS[name].most))
            select(built, asked, folder / "selection.parquet")
            parameters = Parameters(seed=index, panel="basic", max_evaluation_records=EVALUATED)
            yield {"fit": name, "seed": seed, "people": len(asked), **_came(built, folder, parameters)}


def _came(built: Built, folder: Path, parameters: Parameters) -> dict[str, Any]:
    """The quote and the run, as far as a quote speaks of it: nothing is judged afterwards, which would take longer."""
    job = job_for(built, parameters)
    bench, extras, selection = prepare(
        job,
        model_dir=built.model,
        dataset_files=[built.records],
        selection=folder / "selection.parquet",
        cancelled=lambda: False,
        ranks=Ranks(),
    )
    started = time.perf_counter()
    panel = Panel(job, bench, extras)
    scoring_s = time.perf_counter() - started
    measured = hardness.assess(panel.bench, panel.baseline, parameters, scoring_s=scoring_s)
    started = time.perf_counter()
    run = Unlearning(panel.bench, panel.baseline, parameters).run(lambda _: None)
    seconds = time.perf_counter() - started
    before = panel.baseline
    after = {which: bench.score(getattr(panel.bench, which)).loss for which in ("forget", "retain", "holdout")}
    return {
        "records": [len(selection.forget), len(selection.retain)],
        "stop_reason": run.stop_reason,
        "hardness": {key: value for key, value in measured.items() if key not in ("layers", "forecast")},
        "quote": measured["forecast"],
        "steps": len(run.rows),
        "seconds": seconds,
        "retain_loss_change": after["retain"] - before.retain.loss,
        "before": {which: getattr(before, which).loss for which in after},
        "after": after,
        "repairs": sum(row["kind"] == "repair" for row in run.rows),
    }


def rank_correlation(cases: Sequence[Case], what: str) -> float:
    """Spearman's, of the expected with what came; nan when either does not vary."""
    pairs = np.array([(case["quote"][what]["expected"], case[what]) for case in cases])
    if len(pairs) < 3 or (pairs == pairs[0]).all(axis=0).any():
        return float("nan")
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


def coverage(cases: Sequence[Case], what: str) -> float:
    """Share of the cases that came out from low to high, ends included."""
    inside = [case["quote"][what]["low"] <= case[what] <= case["quote"][what]["high"] for case in cases]
    return float(np.mean(inside)) if inside else float("nan")


def table(cases: Sequence[Case]) -> str:
    """One line a model and one for all: number of requests, correlation and coverage of each prediction."""
    lines = [f"| {'model':22} | requests | " + " | ".join(f"{what}: rank, within" for what in PREDICTED) + " |"]
    for name, group in _groups(cases).items():
        said = _predicted(group)
        cells = [f"{rank_correlation(said, what):.2f}, {coverage(said, what):.0%}" for what in PREDICTED]
        lines.append(f"| {name:22} | {len(said)} of {len(group)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios(cases: Sequence[Case]) -> str:
    """What came over what was expected: the 10th, 50th and 90th percentile, by model and over all."""
    lines = [f"| {'came / expected':22} | " + " | ".join(PREDICTED) + " |"]
    for name, group in _groups(cases).items():
        cells: list[str] = []
        for what in PREDICTED:
            shares = [case[what] / case["quote"][what]["expected"] for case in _predicted(group)]
            cells.append(", ".join(f"{share:.2f}" for share in np.quantile(shares, (0.1, 0.5, 0.9))))
        lines.append(f"| {name:22} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _groups(cases: Sequence[Case]) -> dict[str, list[Case]]:
    groups = {name: [case for case in cases if case["fit"] == name] for name in FITS}
    return {**{name: group for name, group in groups.items() if group}, "all": list(cases)}


def _predicted(cases: Sequence[Case]) -> list[Case]:
    """Those whose quote says anything."""
    return [case for case in cases if case["quote"]["why"] is None and case["quote"]["gain_wanted"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", nargs="+", choices=list(FITS), default=list(FITS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[30])
    parser.add_argument("--requests", type=int, default=16, help="to each model")
    parser.add_argument("--quick", action="store_true", help="two models, three requests each")
    parser.add_argument("--save", type=Path, help="write every request as a line of JSON")
    parser.add_argument("--load", type=Path, nargs="+", help="only count again what was saved")
    parser.add_argument("--ratios", action="store_true", help="also print what came over what was expected")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = _saved(options.load) if options.load else _measured(options)
    print(table(cases))
    if options.ratios:
        print(ratios(cases))


def _saved(files: Sequence[Path]) -> list[Case]:
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _measured(options: argparse.Namespace) -> list[Case]:
    fits, seeds, count = options.fits, options.seeds, options.requests
    if options.quick:
        fits, seeds, count = fits[:2], seeds[:1], 3
    cases: list[Case] = []
    for seed in seeds:
        for name in fits:
            for case in requests(name, seed, count):
                cases.append(case)
                spent = f"{case['seconds']:.1f} s"
                people, steps = case["people"], case["steps"]
                print(f"{name} seed {seed}: {people} people, {steps} steps, {spent}, {case['stop_reason']}", flush=True)
                if options.save:
                    options.save.write_text("".join(json.dumps(one) + "\n" for one in cases))
    return cases


if __name__ == "__main__":
    main()
