"""All attacks on one model, after another."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from core.evaluation.estimates import Estimate
from core.evaluation.recovery import recovery
from core.evaluation.relearning import relearning_speed
from core.evaluation.scores import SetScores
from core.unlearning.attacks.quantisation import WIDTHS, quantised
from core.unlearning.attacks.relearning import relearn, split, taught_of, way
from core.unlearning.bench import Bench
from core.unlearning.seed import generator


@dataclass(frozen=True, slots=True)
class Attacked:
    """Measurements by name, and the contract's ``metrics.attacks``."""

    measurements: dict[str, Estimate]
    block: dict[str, Any]


def attack(bench: Bench, before: SetScores, after: SetScores, *, displacement: float, seed: int) -> Attacked:
    """Attack the bench's model, whose forget scores are ``after`` and were ``before``; the weights stay as they are.

    displacement: how far the run moved them. Raises ``Cancelled``.
    """
    recovered, rounded = _quantisation(bench, before, after, seed)
    speed, curves = _relearning(bench, displacement, seed)
    return Attacked(recovered | speed, {"quantisation": rounded, "relearning": curves})


def _quantisation(
    bench: Bench, before: SetScores, after: SetScores, seed: int
) -> tuple[dict[str, Estimate], dict[str, Any]]:
    measured: dict[str, Estimate] = {}
    block: dict[str, Any] = {}
    for name, bits in WIDTHS.items():
        with quantised(bench.model.model, bits):
            forget, holdout = bench.score(bench.forget), bench.score(bench.holdout)
        measured[f"{name}_recovery"] = recovery(before.losses, after.losses, forget.losses, seed=seed)
        block[name] = {"recovery": measured[f"{name}_recovery"].as_dict(), **_numbers("forget", forget), **_numbers("holdout", holdout)}
    return measured, block
