"""How far can a quote be trusted? Predictions of many runs against what the runs then did.

    OMP_NUM_THREADS=1 python -m benchmarks.quote_calibration --save runs.jsonl
    python -m benchmarks.quote_calibration --load runs.jsonl

Digits classifiers, fitted to various degrees and to labels of which some are drawn at random, forget 1 to 10 of 100
writers (about 1 to 10 % of their training data) with default parameters and the short panel. Prints, over all requests
and by model, Spearman's rank correlation and the share of runs within the quote's low to high. Requests whose quote
predicts nothing are counted apart.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.memorised import noisy_digits
from benchmarks.reaching_target import people_of, unlearn
from core.unlearning.job import Parameters
from tests.builders.models import Built, digits_classifier

WRITERS = 100
EVALUATED = 300
"""Retain records that are looked at."""
FITS = {
    "digits, 6 epochs": (0.0, 6),
    "digits, 12 epochs": (0.0, 12),
    "digits, 40 epochs": (0.0, 40),
    "noisy 5 %, 30 epochs": (0.05, 30),
    "noisy 15 %, 40 epochs": (0.15, 40),
}
PREDICTED = ("steps", "seconds", "retain_loss_change")

Case = Mapping[str, Any]
"""One request: ``fit``, ``seed``, ``writers`` forgotten, ``stop_reason``, ``quote`` (the forecast), and what came:
``steps``, ``seconds`` (of the steps and looks), ``retain_loss_change`` (nats)."""


def fitted(name: str, folder: Path, seed: int) -> Built:
    """The classifier of that name."""
    noise, epochs = FITS[name]
    if noise:
        return noisy_digits(folder, seed, epochs=epochs, wrong=noise, writers=WRITERS)
    return digits_classifier(folder, seed, epochs=epochs, writers=WRITERS)


def requests(name: str, seed: int, count: int) -> Iterator[Case]:
    """So many requests to one model, each from its original weights."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        built = fitted(name, folder, seed)
        for index in range(count):
            writers = rng.randint(1, 10)
            people = people_of(built, 1000 * seed + index, writers)
            parameters = Parameters(seed=index, panel="basic", max_evaluation_records=EVALUATED)
            yield _case(name, writers, unlearn(name, seed, built, people, folder / str(index), parameters))


def _case(name: str, writers: int, result: Any) -> Case:
    found = result.outcome
    return {
        "fit": name,
        "seed": result.seed,
        "writers": writers,
        "stop_reason": found.stop_reason,
        "quote": found.hardness["forecast"],
        "steps": result.steps,
        "seconds": found.timings["unlearn_s"],
        "retain_loss_change": result.loss("after", "retain") - result.loss("before", "retain"),
        "before": {name: result.loss("before", name) for name in ("forget", "retain", "holdout")},
        "after": {name: result.loss("after", name) for name in ("forget", "retain", "holdout")},
        "unmet": [target["name"] for target in found.unmet_targets],
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
    groups = {name: [case for case in cases if case["fit"] == name] for name in FITS}
    lines = [f"| {'model':22} | requests | " + " | ".join(f"{what}: rank, within" for what in PREDICTED) + " |"]
    for name, group in {**groups, "all": list(cases)}.items():
        said = [case for case in group if case["quote"]["why"] is None]
        if not group:
            continue
        cells = [f"{rank_correlation(said, what):.2f}, {coverage(said, what):.0%}" for what in PREDICTED]
        lines.append(f"| {name:22} | {len(said)} of {len(group)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", nargs="+", choices=list(FITS), default=list(FITS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[30])
    parser.add_argument("--requests", type=int, default=22, help="to each model")
    parser.add_argument("--quick", action="store_true", help="two models, three requests each")
    parser.add_argument("--save", type=Path, help="write every request as a line of JSON")
    parser.add_argument("--load", type=Path, nargs="+", help="only count again what was saved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.load:
        print(table([json.loads(line) for file in options.load for line in file.read_text().splitlines()]))
        return
    fits, seeds, count = options.fits, options.seeds, options.requests
    if options.quick:
        fits, seeds, count = fits[:2], seeds[:1], 3
    cases: list[Case] = []
    for seed in seeds:
        for name in fits:
            for case in requests(name, seed, count):
                cases.append(case)
                print(f"{name} seed {seed}: {case['writers']} writers, {case['steps']} steps, {case['stop_reason']}")
                if options.save:
                    options.save.write_text("".join(json.dumps(one) + "\n" for one in cases))
    print(table(cases))


if __name__ == "__main__":
    main()
