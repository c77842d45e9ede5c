"""What do many deletions, one after another, do to one model? And when does the service say that it is time to retrain?

    OMP_NUM_THREADS=1 python -m benchmarks.sequential --models digits people --requests 20 --out FOLDER

One person a request, 100 people. Each run unlearns from the version before it, retains nobody who was erased before,
and looks again at all of those (gate ``earlier_deletions``). Every result is published, as if a person had approved
those that the gates would have stopped: that is the most that can add up. Prints a Markdown table a model, and at which
request each reason of ``core.evaluation.drift`` first holds. At the end the original model is trained anew without all
of them (``--no-control``: not) and measured on the sets of the last request: only beside that can be said whether the
advice came too early or too late, and how low the ratios of earlier deletions are when they were truly never seen.

With --out the table's columns are drawn as SVG, and saved as JSON.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.memorised import RECIPES, Recipe
from benchmarks.reaching_target import people_of, run_for
from core.evaluation.drift import PastRun, drift
from core.plots.drawing import CONTROL, FORGET, GOAL, RETAIN, as_svg, figure_of, legend, line, sheet
from core.unlearning.job import Outcome, Parameters
from tests.builders import models
from tests.builders.models import Built

PEOPLE = 100


MODELS: Mapping[str, Recipe] = {
    "digits": replace(RECIPES["digits"], build=partial(models.digits_classifier, writers=PEOPLE)),
    "people": replace(RECIPES["people"], build=partial(models.people_lm, members=PEOPLE)),
}


@dataclass(frozen=True, slots=True)
class Done:
    """One request's run: the model after it, and what the service would advise."""

    number: int
    stop_reason: str
    verdict: str
    missed: tuple[str, ...]
    share_erased: float
    forget_ratio: float
    earlier_ratio: float | None
    """The lowest loss ratio over those who were forgotten before; None at the first request."""
    earlier_status: str | None
    retain: Mapping[str, float]
    holdout: Mapping[str, float]
    """Loss and accuracy after the run."""
    retain_drop: float
    holdout_drop: float
    """Summed drops of accuracy, as ``drift`` counts them."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """The original model and one trained anew without any of the erased, on the sets of the last request."""

    original: Mapping[str, Mapping[str, float]]
    anew: Mapping[str, Mapping[str, float]]
    """Loss and accuracy by set."""
    anew_earlier: Mapping[str, float | None]
    """Loss ratio of each earlier request's records in the model trained anew."""


def deletions(built: Built, people: Sequence[str], folder: Path) -> Iterator[Done]:
    """Forget these people one after another, each from the version before."""
    past: list[PastRun] = []
    earlier: dict[str, str] = {}
    for number, person in enumerate(people, 1):
        place = folder / f"run-{number}"
        parameters = Parameters(panel="basic", seed=number)
        outcome = run_for(built, [person], place, lambda _: None, earlier=earlier, parameters=parameters)
        if outcome.metrics is None:
            raise RuntimeError(f"request {number}: {outcome.failure}")
        past.append(_past(outcome))
        yield _done(number, outcome, past)
        built = replace(built, model=place / "output")
        earlier[person] = f"run-{number}"


def _past(outcome: Outcome) -> PastRun:
    status = _gate(outcome, "earlier_deletions").get("status")
    return PastRun(
        forget_records=outcome.forget_records,
        retain_records=outcome.retain_records,
        retain_accuracy_drop=_drop(outcome, "retain"),
        holdout_accuracy_drop=_drop(outcome, "holdout"),
        earlier_forgotten=None if status in (None, "undecided") else status == "passed",
    )


def _done(number: int, outcome: Outcome, past: Sequence[PastRun]) -> Done:
    added = drift(past)
    earlier = _gate(outcome, "earlier_deletions")
    return Done(
        number=number,
        stop_reason=str(outcome.stop_reason),
        verdict=str(outcome.verdict),
        missed=tuple(str(target["name"]) for target in outcome.unmet_targets),
        share_erased=added.erased_share,
        forget_ratio=float(_gate(outcome, "forget_loss_ratio")["value"]),
        earlier_ratio=earlier.get("value"),
        earlier_status=earlier.get("status"),
        retain=_scores(outcome, "after", "retain"),
        holdout=_scores(outcome, "after", "holdout"),
        retain_drop=added.retain_accuracy_drop,
        holdout_drop=added.holdout_accuracy_drop,
        reasons=added.reasons,
    )


def _gate(outcome: Outcome, name: str) -> Mapping[str, Any]:
    return next((gate for gate in outcome.gates if gate["name"] == name), {})


def _drop(outcome: Outcome, which: str) -> float:
    before, after = (_scores(outcome, when, which)["accuracy"] for when in ("before", "after"))
    return before - after


def _scores(outcome: Outcome, when: str, which: str) -> Mapping[str, float]:
    assert outcome.metrics is not None
    return {name: float(outcome.metrics[when][which][name]) for name in ("loss", "accuracy")}


def trained_anew(built: Built, people: Sequence[str], folder: Path, anew: Parameters) -> Ends:
    """The two ends; what the last request forgets is the forget set."""
    parameters = replace(anew, seed=len(people))
    earlier = {person: f"run-{number}" for number, person in enumerate(people[:-1], 1)}
    outcome = run_for(built, people[-1:], folder / "anew", lambda _: None, earlier=earlier, parameters=parameters)
    assert outcome.metrics is not None
    sets = ("forget", "retain", "holdout")
    original, anew = ({name: _scores(outcome, when, name) for name in sets} for when in ("before", "after"))
    held = {name: one["loss_ratio"]["value"] for name, one in outcome.metrics["earlier"].items()}
    return Ends(original, anew, held)


def row(done: Done) -> str:
    """One line of the table."""
    earlier = "" if done.earlier_ratio is None else f"{done.earlier_ratio:.2f} ({done.earlier_status})"
    return (
        f"| {done.number} | {done.share_erased:.1%} | {done.stop_reason} | {done.verdict} | {done.forget_ratio:.2f} |"
        f" {earlier} | {done.retain['accuracy']:.4f}, {done.retain['loss']:.4f} |"
        f" {done.holdout['accuracy']:.4f}, {done.holdout['loss']:.4f} |"
        f" {100 * done.retain_drop:+.2f}, {100 * done.holdout_drop:+.2f} | {len(done.reasons) or ''} |"
    )


HEAD = (
    "| request | erased | ended | verdict | forget loss ratio | lowest earlier ratio | retain accuracy, loss |"
    " holdout accuracy, loss | summed drops [pp] | reasons to retrain |\n" + "|---" * 10 + "|"
)


def first_reasons(run: Sequence[Done]) -> list[str]:
    """At which request each kind of reason first held, and of how many requests it did."""
    kinds = {
        "retain accuracy": "Retain",
        "holdout accuracy": "Holdout",
        "share erased": "training records",
        "earlier deletions": "brought back",
    }
    lines: list[str] = []
    for name, words in kinds.items():
        held = [done.number for done in run if any(words in reason for reason in done.reasons)]
        lines.append(f"{name}: " + (f"from request {held[0]} on, {len(held)} times" if held else "never"))
    return lines


def drawn(model: str, run: Sequence[Done]) -> str:
    """Accuracy, loss, and how well earlier deletions held, over the requests, as SVG."""
    accuracy, loss, held = sheet(f"Deletion after deletion, {model}: nothing should drift", 3, height=7.0)
    numbers = [done.number for done in run]
    for axes, what, unit in ((accuracy, "accuracy", "accuracy"), (loss, "loss", "mean loss [nats]")):
        line(axes, numbers, [done.retain[what] for done in run], RETAIN, "retain set")
        line(axes, numbers, [done.holdout[what] for done in run], CONTROL, "holdout")
        axes.set_ylabel(unit)
        legend(axes)
    line(held, numbers, [done.forget_ratio for done in run], FORGET, "forgotten now")
    known = [done for done in run if done.earlier_ratio is not None]
    ratios = [done.earlier_ratio or 0.0 for done in known]
    line(held, [done.number for done in known], ratios, RETAIN, "earlier, the lowest")
    held.axhline(0.8, color=GOAL.color, linestyle=GOAL.line, label="gate: at least 0.8")
    held.set_ylabel("loss ratio")
    held.set_xlabel("request")
    legend(held)
    return as_svg(figure_of(held))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--no-control", dest="control", action="store_false", help="do not train anew at the end")
    parser.add_argument("--out", type=Path, help="folder for a drawing and the figures of each model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        with tempfile.TemporaryDirectory() as place:
            _one(name, options, Path(place))


def _one(name: str, options: argparse.Namespace, folder: Path) -> None:
    recipe = MODELS[name]
    built = recipe.build(folder, options.seed)
    people = people_of(built, options.seed, options.requests)
    print(f"{name}, seed {options.seed}\n{HEAD}")
    run: list[Done] = []
    for done in deletions(built, people, folder):
        run.append(done)
        print(row(done), flush=True)
    print("\n".join(first_reasons(run)))
    ends = trained_anew(built, people, folder, recipe.anew) if options.control else None
    if ends:
        for word, found in (("original", ends.original), ("trained anew", ends.anew)):
            print(word, {which: {what: round(value, 4) for what, value in one.items()} for which, one in found.items()})
        known = sorted(ratio for ratio in ends.anew_earlier.values() if ratio is not None)
        print("earlier deletions in the model trained anew:", " ".join(f"{ratio:.2f}" for ratio in known))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"sequential-{name}.svg").write_text(drawn(name, run))
        saved = {"requests": [asdict(done) for done in run], "ends": asdict(ends) if ends else None}
        (options.out / f"sequential-{name}.json").write_text(json.dumps(saved, indent=1))


if __name__ == "__main__":
    main()
