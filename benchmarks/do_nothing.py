"""Can the evidence say no, and yes? Runs that forget nothing, and runs that do, through the same panel and gates.

    OMP_NUM_THREADS=1 python -m benchmarks.do_nothing --models digits people --seeds 10 11 12
    OMP_NUM_THREADS=1 python -m benchmarks.do_nothing --planted 0 --retrain --panel basic --save judged.jsonl

On each model, for each of several forget sets: every engine of ``benchmarks.planted`` in the place of the method
(``--planted``), then the default policy (``--good``). Runs of the method that reached their target are counted apart
from those that did not. With ``--retrain`` a model is trained anew, by the recipe of the first, without the people of
the last forget set, and judged as if it were the result of forgetting each of them, of pairs, and of all: as good as a
result can be. Whoever it has never met besides stands in for an earlier deletion.

Printed are the verdicts by engine and the gates that stopped them. A planted run that passes, with or without warnings,
makes the program fail.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.memorised import RECIPES
from benchmarks.planted import ENGINES, copied, planted
from benchmarks.reaching_target import Result, people_of, run_for, unlearn
from core.unlearning.job import PANELS, Parameters
from tests.builders.models import Built

SIZES = (1, 1, 2, 3, 4)
"""How many people each of a model's forget sets holds: 2 to 10 % of the training records."""
GOOD = ("passed", "passed_with_warnings")
REACHED, SHORT = "hamu-q", "hamu-q, short"
"""Runs of the method that reached their target, and those that did not."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One run and who made it."""

    engine: str
    result: Result

    @property
    def passed(self) -> bool:
        return self.result.outcome.verdict in GOOD

    def as_dict(self) -> dict[str, Any]:
        """What is worth keeping of it."""
        outcome = self.result.outcome
        names = ("name", "value", "low", "high", "status", "severity")
        return {
            "engine": self.engine,
            "model": self.result.model,
            "seed": self.result.seed,
            "people": self.result.person,
            "verdict": outcome.verdict,
            "stop_reason": outcome.stop_reason,
            "records": outcome.forget_records,
            "earlier": (outcome.metrics or {}).get("earlier"),
            "gates": [{name: gate[name] for name in names} for gate in outcome.gates],
        }


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


def retrained(
    model: str, seed: int, built: Built, people: Sequence[str], folder: Path, asked: argparse.Namespace
) -> Iterator[Judged]:
    """A model trained anew without ``people``, as the result of forgetting each, pairs of them, and all."""
    anew = replace(RECIPES[model].anew, seed=seed)
    run_for(built, people, folder / "anew", lambda _: None, parameters=anew)
    pairs = [people[i : i + 2] for i in range(0, len(people), 2)]
    for number, some in enumerate((*([one] for one in people), *pairs, people)):
        others = {one: f"run-{one}" for one in people if one not in some}
        with planted(copied(folder / "anew" / "output")):
            plain = Parameters(method="retrain", panel=asked.panel)
            result = unlearn(model, seed, built, some, folder / f"anew-{number}", plain, earlier=others)
        yield Judged("retrain", result)


def _over(model: str, seed: int, folder: Path, asked: argparse.Namespace) -> Iterator[Judged]:
    """All that is judged over one model."""
    built = RECIPES[model].build(folder, seed)
    people: Sequence[str] = ()
    for number, people in enumerate(forget_sets(built, seed)):
        place = folder / str(number)
        place.mkdir()
        yield from judged(model, seed, built, people, place, asked)
    if asked.retrain:
        yield from retrained(model, seed, built, people, folder, asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=sorted(RECIPES), default=["digits", "people"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11, 12])
    parser.add_argument("--planted", type=int, default=4, help="plant engines on sets of at most so many; 0: on none")
    parser.add_argument("--good", type=int, default=4, help="unlearn forget sets of at most so many people; 0: none")
    parser.add_argument("--retrain", action="store_true", help="also judge a model that was trained anew")
    parser.add_argument("--panel", choices=PANELS, default="full", help="basic: without attacks, which only warn")
    parser.add_argument("--save", type=Path, help="write every run with its gates as a line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[Judged] = []
    for model in options.models:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                for one in _over(model, seed, Path(folder), options):
                    found.append(one)
                    _print_run(one)
                    if options.save:
                        options.save.write_text("".join(json.dumps(each.as_dict()) + "\n" for each in found))
    _print_summary(found)
    sys.exit(any(one.passed for one in found if one.engine in ENGINES))


def _print_run(one: Judged) -> None:
    outcome, people = one.result.outcome, one.result.person.count("+") + 1
    print(
        f"{one.result.model:7} seed {one.result.seed:2} people {people} {one.engine:13} {outcome.verdict or '-':21}"
        f" {outcome.stop_reason or '-':25} {one.result.seconds:6.1f} s  {' '.join(one.result.stopped_by)}",
        flush=True,
    )


def _print_summary(found: Sequence[Judged]) -> None:
    print(f"\n{'engine':13} {'runs':>4} {'passed':>7} {'warned':>7} {'inconcl.':>8} {'failed':>7}  failed gates")
    for engine in (*ENGINES, REACHED, SHORT, "retrain"):
        runs = [one for one in found if one.engine == engine]
        if not runs:
            continue
        verdicts = Counter(one.result.outcome.verdict for one in runs)
        gates = Counter(gate for one in runs for gate in one.result.stopped_by)
        counts = (verdicts[word] for word in (*GOOD, "inconclusive", "failed"))
        print(
            f"{engine:13} {len(runs):4} " + "{:7} {:7} {:8} {:7}  ".format(*counts)
            + ", ".join(f"{name} {count}" for name, count in gates.most_common())
        )  # fmt: skip


if __name__ == "__main__":
    main()
