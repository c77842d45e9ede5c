"""What must not pass: the unchanged weights, and retained records judged as if they had been the forget set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.evaluation.gates import Gate, judge
from core.evaluation.limits import Limits
from core.evaluation.verdict import verdict
from core.unlearning.measuring import Facts, Measurements, finite, measure
from core.unlearning.observing import Look, match
from core.unlearning.seed import generator

_LEAST_PLACEBO = 500


@dataclass(frozen=True, slots=True)
class Placebo:
    """Retained records that nothing aims at, as indices into the observed retain set, rising and disjoint.

    They may occur in retain minibatches like every retained record.
    """

    judged: NDArray[np.integer]
    """As many as are forgotten, or half of all there are: judged as if they had been the forget set."""
    pool: NDArray[np.integer]
    """The others, from which sets of the forget set's size are drawn."""


def draw_placebo(retain: int, forget: int, *, seed: int) -> Placebo:
    """From ``retain`` records, at least 500 or twice the forget set's number if there are so many."""
    size = min(retain, max(_LEAST_PLACEBO, 2 * forget))
    drawn = generator(seed, "placebo").permutation(retain)[:size]
    judged = min(forget, size // 2)
    return Placebo(np.sort(drawn[:judged]), np.sort(drawn[judged:]))


def no_op_block(no_op: Measurements, limits: Limits, *, matched: bool) -> dict[str, Any]:
    """The contract's ``controls.no_op``: the verdict on the unchanged weights."""
    gates = judge(no_op, {}, limits)
    return {"verdict": verdict(gates, matched=matched).verdict, "gates": _short(gates)}


def placebo_block(before: Look, after: Look, placebo: Placebo, facts: Facts, limits: Limits) -> dict[str, Any]:
    """The contract's ``controls.placebo``: the verdict on the placebo, by the same looks at the same weights."""
    were, are = (look.of(look.retain.take(placebo.judged)) for look in (before, after))
    matching = match(were, seed=facts.seed)
    measured = measure(were, are, replace(facts, matching=matching))
    gates = judge(measured, {}, limits)
    return {
        "records": len(placebo.judged),
        "loss_before": finite(were.forget.scores.loss),
        "loss_after": finite(are.forget.scores.loss),
        "specificity": finite(measured["specificity"].value),
        "verdict": verdict(gates, matched=matching.enough).verdict,
        "gates": _short(gates),
    }


def _short(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    return [{"name": gate.name, "status": gate.status, "value": finite(gate.value)} for gate in gates]
