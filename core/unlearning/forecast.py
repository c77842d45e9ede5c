"""What a run is likely to take, guessed from its first gradients. Plain arithmetic; ``hardness`` has the formulas."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.unlearning.dials import REGION, RETAIN_DRIFT
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters
from core.unlearning.objective import ForgetObjective, matched_targets, value_of
from core.unlearning.targets import membership

FORWARD_SHARE = 1 / 3
"""What a forward pass costs, as a share of a pass with gradients: the backward pass does about twice the work."""

SECONDS_OVERRUN = 1.5
"""Factor of the slow guess: steps that are tried again and a machine that is busier than it was."""


@dataclass(frozen=True, slots=True)
class _Case:
    """How well a run goes: the share of its promises that comes true, and the growth of its rate in a step."""

    realised: float
    growth: float


STEPS_OVERRUN = 3.0
"""Factor of the slow guess: repairs of real harm, and steps after the forget loss is at its target (docs/quotes.md)."""

RETAIN_CASES = {"low": -1.0, "expected": 1.3, "high": 4.0}
"""Change of the retain loss over share forgotten · (retain loss + wanted rise of the forget loss); docs/quotes.md says
from which runs."""

CASES = {
    "low": _Case(1.0, REGION.growth),
    "expected": _Case(0.8, math.sqrt(REGION.growth)),
    "high": _Case(0.6, REGION.growth**0.25),
}
"""Runs realised 0.6 to 1.1 of what they promised. A rate grows after good steps only, and is taken back by others."""


@dataclass(frozen=True, slots=True)
class Way:
    """How far it is to the target, in nats of the forget objective, which ends at 0."""

    start: float
    """What is left now."""
    end: float
    """What may be left when the mean loss has reached the target."""
    loss: float
    """By how many nats the mean forget loss has to rise."""


@dataclass(frozen=True, slots=True)
class First:
    """The first step over one retain minibatch."""

    promised_gain: float
    """In nats of the forget objective, at the quota that a run would ask for."""
    stopped: str | None
    """Why a run would stop before it, if it would."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Measured seconds on the worker's device."""

    gradients_s: float
    """Both gradients: the whole forget set's and one retain minibatch's."""
    scoring_s: float
    """Scoring the forget, retain and holdout sets."""
    steps_between_looks: int


def way_to_target(baseline: Baseline, parameters: Parameters) -> Way | None:
    """The way if every record ends at ``forget_target_ratio`` of the holdout loss matched to it.

    None without a holdout, for then there is no target; ``start == end`` when loss and membership are there already.
    """
    forget, holdout = baseline.forget.losses, baseline.holdout.losses
    if not len(holdout) or not np.isfinite(baseline.holdout.loss):
        return None
    objective = ForgetObjective.matched(forget, holdout)
    start = -value_of(objective, forget)
    rise = max(0.0, parameters.forget_target_ratio * baseline.holdout.loss - baseline.forget.loss)
    if not rise and membership(forget, holdout, parameters).met:
        return Way(start, start, 0.0)
    end = -value_of(objective, parameters.forget_target_ratio * matched_targets(forget, holdout))
    return Way(start, min(start, end), rise)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is retained."""

    loss: float
    """Its mean loss in nats."""
    forgotten: float
    """Records to forget for each that is retained."""
    noise: float
    """Standard error of a minibatch's mean loss in nats."""


def retain_change(way: Way, kept: Kept) -> dict[str, float]:
    """Change of the retain loss in nats, ``low``, ``expected``, ``high``; no loss falls below 0."""
    scale = kept.forgotten * (kept.loss + way.loss) if way.start > way.end else 0.0
    return {name: max(-kept.loss, factor * scale) for name, factor in RETAIN_CASES.items()}


def repair_share(way: Way, kept: Kept) -> float:
    """Repair steps for each forget step, from chance alone: that a minibatch of unharmed records looks harmed.

    A run repairs, every other step at most, while a minibatch's loss is above what may drift. Means of minibatches are
    taken as normal.
    """
    allowed = RETAIN_DRIFT * way.loss
    return 0.5 * math.erfc(allowed / (kept.noise * math.sqrt(2))) if kept.noise > 0 else 0.0


def count_steps(way: Way, first_gain: float, *, realised: float, growth: float, most: int) -> int | None:
    """Steps until no more than ``way.end`` is left; None when that takes more than ``most``.

    Step k promises ``first_gain * growth**k``, but no more than the trust region's leap of what is left, and realises
    a share of it.
    """
    left, promise = way.start, first_gain
    for step in range(most + 1):
        if left <= way.end:
            return step
        left -= realised * min(promise, REGION.leap * left)
        promise *= growth
    return None


def seconds_of(steps: int, cost: Cost) -> float:
    """A run of that many steps: scoring before and after, a look every few steps, gradients and one trial a step."""
    looks = 1 + steps // cost.steps_between_looks
    return (2 + looks) * cost.scoring_s + steps * (1 + FORWARD_SHARE) * cost.gradients_s


def forecast(
    firsts: Sequence[First], way: Way | None, cost: Cost, parameters: Parameters, *, kept: Kept
) -> dict[str, Any]:
    """The forecast block, with low, expected and high guesses; what cannot be guessed is None and ``why`` says it.

    ``why``: ``no_holdout`` (there is no target), or the stop reason that a run would meet before its first step.
    ``within_max_steps``: whether the expected guess is; guesses of steps never exceed ``max_steps``.
    """
    middle = sorted(firsts, key=lambda first: first.promised_gain)[len(firsts) // 2]
    block: dict[str, Any] = {
        "why": None,
        "gain_wanted": None,
        "gain_of_first_step": middle.promised_gain,
        "seconds_per_step": (1 + FORWARD_SHARE) * cost.gradients_s,
        "within_max_steps": None,
        "steps": None,
        "seconds": None,
        "retain_loss_change": None,
    }
    if way is None:
        return block | {"why": "no_holdout"}
    wanted = max(0.0, way.start - way.end)
    block |= {"gain_wanted": wanted}
    if wanted and middle.stopped is not None:
        return block | {"why": middle.stopped}
    counted = _counted(firsts, way, middle, most=parameters.max_steps)
    factors = {"low": 1.0, "expected": 1 + repair_share(way, kept), "high": STEPS_OVERRUN}
    most = parameters.max_steps
    steps = {
        name: most if count is None else min(most, round(factors[name] * count)) for name, count in counted.items()
    }
    seconds = {name: seconds_of(count, cost) for name, count in steps.items()}
    return block | {
        "within_max_steps": counted["expected"] is not None and factors["expected"] * counted["expected"] <= most,
        "steps": steps,
        "seconds": seconds | {"high": SECONDS_OVERRUN * seconds["high"]},
        "retain_loss_change": retain_change(way, kept),
    }


def _counted(firsts: Sequence[First], way: Way, middle: First, *, most: int) -> dict[str, int | None]:
    """The luckiest minibatch with the best case, the middle one with the expected, the unluckiest with the worst."""
    gains = [first.promised_gain for first in firsts]
    first_gains = {"low": max(gains), "expected": middle.promised_gain, "high": min(gains)}
    return {
        name: count_steps(way, first_gains[name], realised=case.realised, growth=case.growth, most=most)
        for name, case in CASES.items()
    }
