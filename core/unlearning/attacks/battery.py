"""All attacks on one model, one after another."""

from dataclasses import dataclass
from typing import Any

from core.evaluation.estimates import Estimate
from core.evaluation.recovery import recovery
from core.evaluation.relearning import relearn_speed
from core.evaluation.scores import SetScores
from core.unlearning.attacks.probe import class_probe, trained_probe
from core.unlearning.attacks.quantisation import WIDTHS, quantised
from core.unlearning.attacks.relearning import relearn, split, taught_of, way
from core.unlearning.bench import Bench
from core.unlearning.seed import generator
from core.unlearning.text import TextFamily


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
    return Attacked(
        recovered | {"relearn_speed": speed},
        {"quantisation": rounded, "relearning": curves, "linear_probe": {"gap": probe_of(bench, seed).as_dict()}},
    )


def probe_of(bench: Bench, seed: int) -> Estimate:
    """The linear probe that suits the task."""
    return (trained_probe if isinstance(bench.family, TextFamily) else class_probe)(bench, seed=seed)


def _quantisation(
    bench: Bench, before: SetScores, after: SetScores, seed: int
) -> tuple[dict[str, Estimate], dict[str, Any]]:
    measured: dict[str, Estimate] = {}
    block: dict[str, Any] = {}
    for name, bits in WIDTHS.items():
        with quantised(bench.model.model, bits):
            forget, holdout = bench.score(bench.forget), bench.score(bench.holdout)
        found = recovery(before.losses, after.losses, forget.losses, seed=seed)
        measured[f"{name}_recovery"] = found
        block[name] = {"forget_loss": forget.loss, "forget_accuracy": forget.accuracy, "recovery": found.as_dict()}
        block[name] |= {"holdout_loss": holdout.loss, "holdout_accuracy": holdout.accuracy}
    return measured, block


def _relearning(bench: Bench, displacement: float, seed: int) -> tuple[Estimate, dict[str, Any]]:
    """Unknown without records to teach and to examine on both sides, or when the weights did not move."""
    length, forget = way(bench.model.trainable, displacement), len(bench.forget)
    taught = taught_of(min(forget, len(bench.holdout)))
    examined = min(forget, len(bench.holdout)) - taught
    if not length > 0 or examined < 1:
        return Estimate.unknown(), {"taught_records": 0, "examined_records": 0, "forget": [], "control": []}
    rng = generator(seed, "relearning")
    losses = [
        relearn(bench, split(examples, taught=taught, examined=examined, rng=rng), length=length)
        for examples in (bench.forget, bench.holdout)
    ]
    forget_curve, control_curve = (each.mean(axis=0).tolist() for each in losses)
    return relearn_speed(losses[0], losses[1], seed=seed), {
        "taught_records": taught,
        "examined_records": examined,
        "length": length,
        "forget": forget_curve,
        "control": control_curve,
    }
