"""Does a run find quota and steps by itself as well as a search for them would?

    OMP_NUM_THREADS=1 python -m benchmarks.grid_search

For each request the default policy runs once, and a grid of quota × steps runs with everything else alike but the
target out of reach, so that a run ends after its steps. All are judged by the same targets of the default policy and
the same gates. Of the grid the best is kept: a run that meets all targets before one that does not, then the one with
fewer targets missed, then the one whose forget loss is nearest to the holdout's. Cost is processor seconds of whole
runs, evaluation included.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch

from benchmarks.memorised import RECIPES
from benchmarks.reaching_target import Result, people_of, unlearn
from core.unlearning.job import Parameters
from tests.builders.models import Built

QUOTAS = (0.1, 0.3, 0.5, 0.8)
STEPS = (10, 20, 40, 80)
DEFAULT = Parameters(panel="basic")
OUT_OF_REACH = 9.9
"""A share of the holdout's loss that no run comes to."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One run: by what setting, what it missed, and what it cost."""

    setting: str
    missed: tuple[str, ...]
    ratio: float
    verdict: str
    steps: int
    seconds: float

    @property
    def hit(self) -> bool:
        return not self.missed and self.verdict in ("passed", "passed_with_warnings")

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Smaller is better."""
        return not self.hit, len(self.missed), abs(self.ratio - 1)


def attempt(setting: str, built: Built, people: Sequence[str], folder: Path, parameters: Parameters) -> Tried:
    """One run, judged by the default targets whatever it aimed at."""
    began = time.process_time()
    result = unlearn("grid", 0, built, people, folder, parameters)
    return Tried(
        setting, _missed(result), result.ratio, str(result.outcome.verdict), result.steps, time.process_time() - began
    )


def _missed(result: Result) -> tuple[str, ...]:
    """The default targets that a result misses, whatever its own were."""
    own = {one["name"] for one in result.outcome.unmet_targets} - {"forget_loss_ratio"}
    return tuple(sorted(own | ({"forget_loss_ratio"} if _loss_ratio(result) < DEFAULT.forget_target_ratio else set())))


def _loss_ratio(result: Result) -> float:
    """Forget loss over the yardstick, as the gate measures it."""
    gates: Mapping[str, Mapping[str, object]] = {str(gate["name"]): gate for gate in result.outcome.gates}
    value = gates["forget_loss_ratio"]["value"]
    return float(value) if isinstance(value, float) else 0.0


def grid(built: Built, people: Sequence[str], folder: Path, *, every: int) -> list[Tried]:
    """Each setting of ``every``-th quota and number of steps, each from the original weights."""
    fixed = replace(DEFAULT, forget_target_ratio=OUT_OF_REACH)
    return [
        attempt(
            f"quota {quota:g}, {steps} steps",
            built,
            people,
            folder / f"{quota}-{steps}",
            replace(fixed, quota_ratio=quota, max_steps=steps),
        )
        for quota, steps in product(QUOTAS[::every], STEPS[::every])
    ]


def compare(name: str, built: Built, people: Sequence[str], folder: Path, *, every: int) -> tuple[Tried, list[Tried]]:
    """The default policy's run and the grid's, best first."""
    own = attempt("by itself", built, people, folder / "own", DEFAULT)
    searched = sorted(grid(built, people, folder, every=every), key=lambda one: one.rank)
    for one in (own, searched[0]):
        print(
            f"{name}, {'+'.join(people)}: {one.setting}: {one.steps} steps, ratio {one.ratio:.2f},"
            f" missed {', '.join(one.missed) or 'nothing'}, {one.verdict}, {one.seconds:.1f} s",
            flush=True,
        )
    return own, searched


def summary(name: str, compared: Sequence[tuple[Tried, list[Tried]]]) -> str:
    """A line of the table in docs/benchmarks.md."""
    runs = len(compared)
    own_cost = sum(own.seconds for own, _ in compared)
    grid_cost = sum(one.seconds for _, searched in compared for one in searched)
    single = max(
        sum(one.hit for _, searched in compared for one in searched if one.setting == setting)
        for setting in {one.setting for one in compared[0][1]}
    )
    return (
        f"| {name} | {sum(own.hit for own, _ in compared)} of {runs} | {sum(s[0].hit for _, s in compared)} of {runs}"
        f" | {single} of {runs} | {own_cost / runs:.1f} s | {grid_cost / runs:.1f} s | {grid_cost / own_cost:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("digits", "noisy"), default=["digits", "noisy"])
    parser.add_argument("--requests", type=int, default=3)
    parser.add_argument("--seed", type=int, default=40)
    parser.add_argument("--every", type=int, default=1, help="of quotas and of steps: 2 tries a quarter of the grid")
    parser.add_argument("--quick", action="store_true", help="one request to one model, a quarter of the grid")
    options = parser.parse_args()
    torch.set_num_threads(1)
    models, count = (options.models[:1], 1) if options.quick else (options.models, options.requests)
    every = 2 if options.quick else options.every
    lines: list[str] = []
    for name in models:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            built = RECIPES[name].build(folder, options.seed)
            compared: list[tuple[Tried, list[Tried]]] = []
            for person in people_of(built, options.seed, count):
                (folder / person).mkdir()
                compared.append(compare(name, built, [person], folder / person, every=every))
        lines.append(summary(name, compared))
    print("| model | by itself | best of grid | best one setting | its cost | the grid's | ratio |", *lines, sep="\n")


if __name__ == "__main__":
    main()
