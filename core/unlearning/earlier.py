"""Do earlier deletions still hold? Records that other runs forgot, measured on the new weights and never trained on."""

from collections.abc import Mapping
from typing import Any

from core.evaluation.estimates import Estimate
from core.evaluation.loss_ratio import forget_loss_ratio
from core.unlearning.batches import ExampleSet
from core.unlearning.bench import Bench
from core.unlearning.measuring import finite
from core.unlearning.observing import Look, match


def earlier_deletions(
    bench: Bench, sets: Mapping[str, ExampleSet], before: Look, after: Look, *, seed: int
) -> tuple[Estimate, dict[str, Any]]:
    """The lowest ratio of loss to yardstick over the earlier runs, and a block for each of them by its id.

    Each run's records are matched with holdout records of their own; unknown when none of them finds enough.
    """
    ratios: dict[str, Estimate] = {}
    blocks: dict[str, Any] = {}
    for run_id, examples in sets.items():
        seen = bench.observe(examples)
        matching = match(after.of(seen), seed=seed)
        losses = seen.scores.losses[matching.forget]
        were, are = (one.holdout.scores.losses[matching.holdout] for one in (before, after))
        ratio = forget_loss_ratio(losses, were, are, seed=seed) if matching.enough else Estimate.unknown()
        ratios[run_id] = ratio
        blocks[run_id] = {"records": len(seen), "loss": finite(seen.scores.loss), "loss_ratio": ratio.as_dict()}
    known = [ratio for ratio in ratios.values() if ratio.known]
    return min(known, key=lambda ratio: ratio.value, default=Estimate.unknown()), blocks
