"""How hard it is to forget these records with this model, and what that will take: before a weight is changed.

**Measured**: both gradients over five retain minibatches, and from them S, C, κ, κ₁, κ₂, the cosine and the verdict.

**Guessed** from them, in the block ``forecast`` (``core.unlearning.forecast``). With φ ≤ 0 the forget objective, which
a run raises towards 0 (``core.unlearning.objective``), G the gain that the first step promises at the policy's rate
and at the quota that a run would ask for, and ratio the policy's ``forget_target_ratio``:

    way       A = -φ(losses now);  B = -φ(ratio × the holdout loss matched to each record);  gain wanted = A - B
    steps     left₀ = A;  left_{k+1} = left_k - ρ · min(G·γᵏ, left_k/4);  counted until left_k ≤ B, each with
              1 - Φ(drift allowed / standard error of a retain minibatch's loss) repairs
    seconds   (3 + ⌊steps/looks⌋) · scoring + steps · (1 + 1/3) · gradients
    retain    c · (records to forget / retained) · (retain loss + rise of the forget loss that is wanted), in nats, with
              c = -1, 1.3, 4 from runs (docs/quotes.md); never below -(retain loss)

left/4 is the trust region's leap, γ the growth of its rate. The spread comes from ρ, the share of its promises that a
run realises (1, 0.8, 0.6), from γ (the trust region's 1.6, its square root, its fourth root), and from the minibatches
(that with the largest G, the middle one, that with the smallest). The slow guess of steps is three times what that
gives, for repairs, and that of seconds half as much again, for retries and a busy machine. These are guesses and not
bounds: gradients change along the way. The first-order retain cost of a step is no guide to that of a run: it is
negative wherever the goals are aligned, and the curvature that it leaves out decides.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from core.hamu import HAMU, Step
from core.hamu.ledger import Cell
from core.unlearning.batches import Example
from core.unlearning.bench import Bench
from core.unlearning.dials import usable_quota
from core.unlearning.failures import UnlearningError
from core.unlearning.forecast import Cost, First, Kept, forecast, way_to_target
from core.unlearning.guard import Baseline, steps_between_looks
from core.unlearning.job import Parameters
from core.unlearning.objective import ForgetObjective, rounding

BRANCHES = ("direct", "rectified", "colinear", "infeasible")
_BATCHES = 5
_LAYERS_LISTED = 200
_ADVICE = {
    "easy": "Retaining and forgetting pull the same way: forgetting costs the retain set nothing.",
    "hard": "Both goals can be improved together: the quota is within what is free of retain cost.",
    "irreconcilable": "Forgetting at this quota must cost the retain set; lower the quota or let a person decide.",
}


def make_optimizer(bench: Bench, parameters: Parameters) -> HAMU:
    """HAMU-Q over the weights that take part. Raises ``UnlearningError`` for settings that it does not know."""
    settings: dict[str, Any] = {
        "quota": parameters.quota,
        "block": parameters.block,
        "stop_rule": parameters.stop_rule,
        "max_grad_norm": parameters.max_grad_norm,
    }
    try:
        return HAMU(
            list(bench.model.trainable.items()),
            lr=parameters.learning_rate,
            quota_ratio=parameters.quota_ratio,
            exact_retract=True,
            group=bench.ranks.group,
            **settings,
        )
    except ValueError as error:
        raise UnlearningError("bad_parameters", f"The parameters do not work together: {error}.") from error


@dataclass(frozen=True, slots=True)
class _Sample:
    """What one retain minibatch says: the step at the policy's quota, the first of a run, and what they took."""

    step: Step
    row: dict[str, Cell]
    first: First
    seconds: float


def assess(bench: Bench, baseline: Baseline, parameters: Parameters, *, scoring_s: float) -> dict[str, Any]:
    """The contract's ``hardness`` block, at the first step's rate and quota; the weights stay as they are.

    Numbers are medians over five retain minibatches (the verdict of the median one), in units of clipped gradients;
    ``cosine_spread`` is the range of the cosine over them, from ``cosine_low`` to ``cosine_high``. ``forget_capacity``
    is S, the most that a step could gain over its rate, ``free_capacity`` C, what of it costs the retain set nothing,
    ``quota`` Q over the rate. ``retain_cost_per_step`` is the predicted change of the retain loss in nats (negative:
    it improves) of a first step. ``layers`` lists tensors with their own κ and cosine, those that forgetting pulls at
    most first. ``forecast`` is described above; ``scoring_s`` is what making ``baseline`` took.
    Raises ``Cancelled`` between minibatches.
    """
    optimizer = make_optimizer(bench, parameters)
    objective = ForgetObjective.matched(baseline.forget.losses, baseline.holdout.losses, bench.model.device)
    samples: list[_Sample] = []
    for examples in islice(bench.retain_batches, _BATCHES):
        bench.check_cancelled()
        samples.append(_sample(optimizer, bench, objective, examples, parameters))
    optimizer.release()
    cost = Cost(
        gradients_s=float(np.median([sample.seconds for sample in samples])),
        scoring_s=scoring_s,
        steps_between_looks=steps_between_looks(bench),
    )
    seen = rounding(baseline.forget.losses)  # a run's steps promise no less
    firsts = [replace(sample.first, promised_gain=max(sample.first.promised_gain, seen)) for sample in samples]
    way = way_to_target(baseline, parameters)
    kept = Kept(
        loss=baseline.retain.loss,
        forgotten=len(bench.forget) / bench.retain_batches.records,
        noise=float(baseline.retain.losses.std()) / math.sqrt(bench.retain_batches.batch_size),
    )
    guessed = forecast(firsts, way, cost, parameters, kept=kept)
    return _block(samples, list(bench.model.trainable), parameters) | {"forecast": finite_only(guessed)}


def _sample(
    optimizer: HAMU, bench: Bench, objective: ForgetObjective, examples: list[Example], parameters: Parameters
) -> _Sample:
    dials = optimizer.param_groups[0]
    dials["quota_ratio"] = parameters.quota_ratio
    started = time.perf_counter()
    batches = bench.shared_batch(examples)
    assessment = optimizer.assess(**bench.goals(batches, objective.values))
    step = optimizer.plan(assessment)
    row = step.row()  # waits for the device
    seconds = time.perf_counter() - started
    capacity, free_capacity = float(assessment.hardness.S), float(assessment.hardness.C)
    dials["quota_ratio"] = usable_quota(parameters.quota_ratio, capacity=capacity, free_capacity=free_capacity)
    used = optimizer.plan(assessment)
    return _Sample(step, row, First(float(used.promised_forget_gain), used.stop_reason), seconds)


def _block(samples: Sequence[_Sample], names: Sequence[str], parameters: Parameters) -> dict[str, Any]:
    rows = sorted((sample.row for sample in samples), key=lambda row: float(row["stopping_margin"] or 0.0))
    middle = rows[len(rows) // 2]
    numbers = {key: _median(rows, key) for key in ("kappa", "kappa_1", "kappa_2", "cosine", "stopping_margin")}
    cosines = [float(row["cosine"] or 0.0) for row in rows]
    capacity = _median(rows, "S")
    verdict = str(middle["verdict"])
    return {
        "verdict": verdict,
        **numbers,
        "cosine_low": finite(min(cosines)),
        "cosine_high": finite(max(cosines)),
        "cosine_spread": finite(max(cosines) - min(cosines)),
        "batches": len(rows),
        "forget_capacity": capacity,
        "free_capacity": _median(rows, "C"),
        "quota": parameters.quota_ratio * capacity if capacity is not None else None,
        "retain_cost_per_step": _median(rows, "predicted_retain_change"),
        "branches": branch_shares(rows),
        "layers": _layers([sample.step for sample in samples], names),
        "advice": _ADVICE[verdict],
    }


def branch_shares(rows: Sequence[Any]) -> dict[str, float]:
    """Mean share of blocks in each branch over ledger rows; zeros without rows of steps that have branches."""
    shares = {name: [row[name] for row in rows if row[name] is not None] for name in BRANCHES}
    return {name: float(np.mean(found)) if found else 0.0 for name, found in shares.items()}


def finite(value: float | None) -> float | None:
    """``value``, or None if JSON could not hold it."""
    return value if value is not None and math.isfinite(value) else None


def finite_only(block: dict[str, Any]) -> dict[str, Any]:
    """``block`` with None for every number in it that JSON could not hold."""
    return {
        key: finite_only(value) if isinstance(value, dict) else finite(value) if isinstance(value, float) else value
        for key, value in block.items()
    }


def _median(rows: Sequence[Any], key: str) -> float | None:
    return finite(float(np.median([row[key] for row in rows])))


def _layers(steps: Sequence[Step], names: Sequence[str]) -> list[dict[str, Any]]:
    """κ, cosine and norms (root mean square) of each tensor over the minibatches, not clipped.

    Empty if tensors had no gradient at all.
    """
    parts = torch.stack([step.assessment.parts for step in steps]).mean(dim=0).cpu()
    if len(parts) != len(names):
        return []
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "kappa": finite(rf),
            "cosine": finite(rf / math.sqrt(rr * ff)) if rr * ff > 0 else 0.0,
            "retain_norm": finite(math.sqrt(rr)),
            "forget_norm": finite(math.sqrt(ff)),
        }
        for name, (rr, ff, rf) in zip(names, parts.tolist(), strict=True)
    ]
    rows.sort(key=lambda row: -float(row["forget_norm"] or 0.0))
    return rows[:_LAYERS_LISTED]
