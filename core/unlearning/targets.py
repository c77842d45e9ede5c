"""The results that a run is to reach, how far it has come to each, and what keeps it from the rest.

A policy names them in ``targets``. All are judged by the values themselves, not by their intervals: they tell a run
when to stop, and the gates say afterwards what was proven.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.evaluation.membership import membership_auc
from core.evaluation.scores import SetScores
from core.evaluation.yardstick import yardstick
from core.unlearning.job import Parameters, StopReason
from core.unlearning.ledger import Row


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the model answered, on each set, at one moment: before the run, unless said otherwise."""

    forget: SetScores
    retain: SetScores
    everyone: SetScores
    """All that is held out, or its sample."""
    matched: NDArray[np.integer] | None = None
    """Indices of those whom the forget set is compared with; None: all of them."""

    @property
    def holdout(self) -> SetScores:
        """The scores of those whom the forget set is compared with."""
        return self.everyone if self.matched is None else self.everyone.take(self.matched)


@dataclass(frozen=True, slots=True)
class Standing:
    """One target: what was measured (nan where it could not be) and the closed margin where it is met."""

    name: str
    value: float
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def met(self) -> bool:
        return self.at_least <= self.value <= self.at_most

    @property
    def limit(self) -> float:
        """The edge of the margin that is nearest to the value; that which there is, when there is one."""
        edges = [edge for edge in (self.at_least, self.at_most) if math.isfinite(edge)]
        return min(edges, key=lambda edge: abs(edge - self.value))


def forget_loss(losses: NDArray[np.floating], goal: float | None, parameters: Parameters) -> Standing:
    """Mean forget loss over the yardstick ``goal`` in nats; nan without one."""
    ratio = float(losses.mean()) / goal if goal else math.nan
    return Standing("forget_loss_ratio", ratio, at_least=parameters.forget_target_ratio)


def auc_tolerance(forget: int, holdout: int, parameters: Parameters) -> float:
    """How far from 0.5 the AUC of so many records may be.

    It is never below what chance would make of two samples of strangers in 19 of 20 cases: 1.96 standard errors
    √((n + m + 1) / 12nm), of the Mann-Whitney statistic (1947).
    """
    chance = 1.96 * math.sqrt((forget + holdout + 1) / (12 * forget * holdout)) if forget and holdout else 0.0
    return max(parameters.membership_auc_tolerance, chance)


def membership(forget: NDArray[np.floating], holdout: NDArray[np.floating], parameters: Parameters) -> Standing:
    """AUC of the loss attack, around 0.5 in both directions. Losses in nats, (n,) and (m,)."""
    width = auc_tolerance(len(forget), len(holdout), parameters)
    return Standing("membership_auc", membership_auc(forget, holdout), at_least=0.5 - width, at_most=0.5 + width)


def retain_drop(before: SetScores, now: SetScores, parameters: Parameters) -> Standing:
    """Fall of retain accuracy, a share of 1."""
    return Standing("retain_accuracy_drop", before.accuracy - now.accuracy, at_most=parameters.retain_accuracy_budget)


def holdout_drop(before: SetScores, now: SetScores, parameters: Parameters) -> Standing:
    """Fall of the accuracy on all that is held out; one answer that turned is always allowed, it may be chance."""
    one = 1 / max(1, int(before.counted.sum()))
    most = max(parameters.holdout_accuracy_budget, one)
    return Standing("holdout_accuracy_drop", before.accuracy - now.accuracy, at_most=most)


def standings(before: Baseline, now: Baseline, parameters: Parameters) -> tuple[Standing, ...]:
    """Every target."""
    losses, strangers = now.forget.losses, now.holdout.losses
    return (
        forget_loss(losses, yardstick(before.holdout, now.holdout), parameters),
        membership(losses, strangers, parameters),
        retain_drop(before.retain, now.retain, parameters),
        holdout_drop(before.everyone, now.everyone, parameters),
    )


def unmet(found: Sequence[Standing], stop_reason: StopReason, rows: Sequence[Row]) -> tuple[dict[str, Any], ...]:
    """The targets that were missed: ``name``, ``value`` (None: not measurable), ``limit``, and ``reason`` in words."""
    return tuple(
        {
            "name": one.name,
            "value": one.value if math.isfinite(one.value) else None,
            "limit": one.limit,
            "reason": _reason(one, stop_reason, rows),
        }
        for one in found
        if not one.met
    )


_WORDS: Mapping[StopReason, str] = {
    "target_reached": "It was met in the precision of the run, and no longer in that of the saved weights.",
    "targets_unmet": "The forget loss was at its target, and the steps after that did not bring this one to its limit.",
    "max_steps": "The run had no steps left (max_steps).",
    "collateral_forgetting_unavoidable": "Forgetting further must cost the retain set.",
    "infeasible": "No step could gain what it promised any more, however short.",
    "retain_budget_exhausted": "The retain accuracy did not come back, so weights of before were put back.",
    "non_finite": "Losses became infinite or undefined, so weights of before were put back.",
}


def _reason(one: Standing, stop_reason: StopReason, rows: Sequence[Row]) -> str:
    if math.isnan(one.value):
        return "There is no holdout to compare with."
    if one.name == "membership_auc" and one.value < one.at_least:
        return "Too many forgotten records are guessed worse than strangers; no step of forgetting brings that back."
    return " ".join([_WORDS.get(stop_reason, f"The run ended: {stop_reason}."), *_hardness(rows)])


def _hardness(rows: Sequence[Row]) -> list[str]:
    """What the last step found possible, C/S; nothing of a method that does not measure it."""
    last = rows[-1] if rows else {}
    capacity, free = last.get("forget_capacity"), last.get("free_capacity")
    if not isinstance(capacity, float) or not isinstance(free, float) or not capacity > 0:
        return []
    return [f"At the last step {free / capacity:.0%} of what a step can gain was free of retain cost."]
