"""Can the evidence say no? Runs that forget nothing, and runs that do, through the same panel, gates and verdict.

    OMP_NUM_THREADS=1 python -m benchmarks.do_nothing --models digits people --seeds 10 11 12
    OMP_NUM_THREADS=1 python -m benchmarks.do_nothing --planted 0 --retrain --panel basic    # good runs alone

On each model, for each of several forget sets: every engine of ``benchmarks.planted`` in the place of the method
(``--planted``), then the default policy (``--good``), and with ``--retrain`` a model trained anew without the forget
set, which is as good as a result can be. Runs of the method that reached their target are counted apart from those that
did not. Printed are the verdicts by engine and the gates that stopped them. A planted run that passes, with or without
warnings, makes the program fail.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.planted import ENGINES, planted
from benchmarks.reaching_target import MODELS, Result, people_of, unlearn
from core.unlearning.job import PANELS, Parameters
from tests.builders.models import Built

SIZES = (1, 1, 2, 3, 4)
"""How many people each of a model's forget sets holds: 2 to 10 % of the training records."""
GOOD = ("passed", "passed_with_warnings")
REACHED, SHORT = "hamu-q", "hamu-q, short"
"""Runs of the method that reached their target, and those that did not."""
RETRAINED = {"digits": 40, "noisy": 120, "people": 60}
"""Epochs that each model was trained for."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One run and who made it."""

    engine: str
    result: Result

    @property
    def passed(self) -> bool:
        return self.result.outcome.verdict in GOOD

    @property
    def stopped_by(self) -> Sequence[str]:
        """Gates that failed and count, or (with a question mark) that a verdict needs and were undecided."""
        return [
            str(gate["name"]) + ("?" if gate["status"] == "undecided" else "")
            for gate in self.result.outcome.gates
            if (gate["status"] == "failed" and gate["severity"] in ("required", "important"))
            or (gate["status"] == "undecided" and gate["severity"] == "required")
        ]


def forget_sets(built: Built, seed: int) -> Iterator[Sequence[str]]:
    """Disjoint groups of people, of the sizes in ``SIZES``."""
    people = list(people_of(built, seed, sum(SIZES)))
    for size in SIZES:
        yield [people.pop() for _ in range(size)]


def judged(
    model: str, seed: int, built: Built, people: Sequence[str], folder: Path, asked: argparse.Namespace
) -> Iterator[Judged]:
    """Every engine that is asked for, on one forget set."""
    plain = Parameters(panel=asked.panel)
    for number, (name, engine) in enumerate(ENGINES.items()):
        if len(people) <= asked.planted:
            with planted(engine):
                yield Judged(name, unlearn(model, seed, built, people, folder / f"planted-{number}", plain))
    if len(people) <= asked.good:
        result = unlearn(model, seed, built, people, folder / "hamu", plain)
        yield Judged(REACHED if result.outcome.stop_reason == "target_reached" else SHORT, result)
    if asked.retrain:
        anew = replace(plain, method="retrain", epochs=RETRAINED[model], learning_rate=3e-3)
        yield Judged("retrain", unlearn(model, seed, built, people, folder / "retrain", anew))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(RETRAINED), default=["digits", "people"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12])
    parser.add_argument("--planted", type=int, default=4, help="plant engines on sets of at most so many; 0: on none")
    parser.add_argument("--good", type=int, default=4, help="unlearn forget sets of at most so many people; 0: none")
    parser.add_argument("--retrain", action="store_true", help="also train a model anew for each forget set")
    parser.add_argument("--panel", choices=PANELS, default="full", help="basic: without attacks, which only warn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[Judged] = []
    for model in options.models:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                built = MODELS[model](Path(folder), seed)
                for number, people in enumerate(forget_sets(built, seed)):
                    place = Path(folder) / str(number)
                    place.mkdir()
                    for one in judged(model, seed, built, people, place, options):
                        found.append(one)
                        _print_run(one, len(people))
    _print_summary(found)
    sys.exit(any(one.passed for one in found if one.engine in ENGINES))


def _print_run(one: Judged, people: int) -> None:
    outcome = one.result.outcome
    print(
        f"{one.result.model:7} seed {one.result.seed:2} people {people} {one.engine:13} {outcome.verdict or '-':21}"
        f" {outcome.stop_reason or '-':25} {one.result.seconds:6.1f} s  {' '.join(one.stopped_by)}",
        flush=True,
    )


def _print_summary(found: Sequence[Judged]) -> None:
    print(f"\n{'engine':13} {'runs':>4} {'passed':>7} {'warned':>7} {'inconcl.':>8} {'failed':>7}  failed gates")
    for engine in (*ENGINES, REACHED, SHORT, "retrain"):
        runs = [one for one in found if one.engine == engine]
        if not runs:
            continue
        verdicts = Counter(one.result.outcome.verdict for one in runs)
        gates = Counter(gate for one in runs for gate in one.stopped_by)
        counts = (verdicts[word] for word in (*GOOD, "inconclusive", "failed"))
        print(
            f"{engine:13} {len(runs):4} " + "{:7} {:7} {:8} {:7}  ".format(*counts)
            + ", ".join(f"{name} {count}" for name, count in gates.most_common())
        )  # fmt: skip


if __name__ == "__main__":
    main()
