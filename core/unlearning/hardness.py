"""How hard it is to forget these records with this model: measured before a weight is changed."""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from core.hamu import HAMU, Step
from core.unlearning.bench import Bench
from core.unlearning.failures import Cancelled, UnlearningError
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters
from core.unlearning.objective import ForgetObjective

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
            **settings,
        )
    except ValueError as error:
        raise UnlearningError("bad_parameters", f"The parameters do not work together: {error}.") from error


def assess(bench: Bench, baseline: Baseline, parameters: Parameters) -> dict[str, Any]:
    """The contract's ``hardness`` block, at the first step's rate and quota; the weights stay as they are.

    Numbers are medians over five retain minibatches (the verdict of the median one), in units of clipped gradients;
    ``cosine_spread`` is the range of the cosine over them. ``retain_cost_per_step`` is the predicted change of the
    retain loss in nats (negative: it improves) of a first step. ``layers`` lists tensors with their own κ and cosine,
    those that forgetting pulls at most first. Raises ``Cancelled`` between minibatches.
    """
    optimizer = make_optimizer(bench, parameters)
    objective = ForgetObjective.matched(baseline.forget.losses, baseline.holdout.losses, bench.model.device)
    steps: list[Step] = []
    for examples in islice(bench.retain_batches, _BATCHES):
        if bench.cancelled():
            raise Cancelled
        batches = bench.batch(examples)
        assessment = optimizer.assess(
            retain_loss=lambda batches=batches: bench.mean_loss(batches),
            forget_loss=lambda: bench.forget_pass(objective.values)[0],
        )
        steps.append(optimizer.plan(assessment))
    optimizer.release()
    return _block(steps, list(bench.model.trainable))


def _block(steps: Sequence[Step], names: Sequence[str]) -> dict[str, Any]:
    rows = sorted((step.row() for step in steps), key=lambda row: float(row["stopping_margin"] or 0.0))
    middle = rows[len(rows) // 2]
    numbers = {key: _median(rows, key) for key in ("kappa", "kappa_1", "kappa_2", "cosine", "stopping_margin")}
    cosines = [float(row["cosine"] or 0.0) for row in rows]
    verdict = str(middle["verdict"])
    return {
        "verdict": verdict,
        **numbers,
        "cosine_spread": finite(max(cosines) - min(cosines)),
        "retain_cost_per_step": _median(rows, "predicted_retain_change"),
        "branches": branch_shares(rows),
        "layers": _layers(steps, names),
        "advice": _ADVICE[verdict],
    }


def branch_shares(rows: Sequence[Any]) -> dict[str, float]:
    """Mean share of blocks in each branch over ledger rows; zeros without rows of steps that have branches."""
    shares = {name: [row[name] for row in rows if row[name] is not None] for name in BRANCHES}
    return {name: float(np.mean(found)) if found else 0.0 for name, found in shares.items()}


def finite(value: float | None) -> float | None:
    """``value``, or None if JSON could not hold it."""
    return value if value is not None and math.isfinite(value) else None


def _median(rows: Sequence[Any], key: str) -> float | None:
    return finite(float(np.median([row[key] for row in rows])))


def _layers(steps: Sequence[Step], names: Sequence[str]) -> list[dict[str, Any]]:
    """κ and cosine of each tensor, summed over minibatches; not clipped. Empty if tensors had no gradient at all."""
    parts = torch.stack([step.assessment.parts for step in steps]).mean(dim=0).cpu()
    if len(parts) != len(names):
        return []
    rows = [
        {
            "name": name,
            "kappa": finite(rf),
            "cosine": finite(rf / math.sqrt(rr * ff)) if rr * ff > 0 else 0.0,
            "pull": ff,
        }
        for name, (rr, ff, rf) in zip(names, parts.tolist(), strict=True)
    ]
    rows.sort(key=lambda row: -row["pull"])
    return [{key: row[key] for key in ("name", "kappa", "cosine")} for row in rows[:_LAYERS_LISTED]]
