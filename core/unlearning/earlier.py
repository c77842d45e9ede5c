"""Do earlier deletions still hold? Records that other runs forgot, measured on the new weights and never trained on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.evaluation.estimates import Estimate
from core.evaluation.loss_ratio import forget_loss_ratio
from core.evaluation.observations import Observation, joined
from core.unlearning.batches import ExampleSet
from core.unlearning.bench import Bench
from core.unlearning.measuring import finite
from core.unlearning.observing import Look, match
from core.unlearning.seed import generator


def earlier_deletions(
    bench: Bench, sets: Mapping[str, ExampleSet], before: Look, after: Look, *, seed: int
) -> tuple[Estimate, dict[str, Any]]:
    """The ratio of loss to yardstick over all earlier records together, and a block for each of the runs by its id.

    Together, since the lowest of many small groups is low by chance: of models that never met twenty people, several of
    these seem known (docs/sequential.md). Unknown when the holdout has too few records like them.
    """
    seen = {run_id: bench.observe(examples) for run_id, examples in sets.items()}
    blocks: dict[str, Any] = {
        run_id: {
            "records": len(one),
            "loss": finite(one.scores.loss),
            "loss_ratio": _ratio(one, before, after, seed=seed).as_dict(),
        }
        for run_id, one in seen.items()
    }
    some = _sample(joined(list(seen.values())), most=len(after.holdout) // 2, seed=seed)
    return _ratio(some, before, after, seed=seed), blocks


def _sample(seen: Observation, *, most: int, seed: int) -> Observation:
    """At most so many records, drawn by chance: each needs a holdout record of its own kind."""
    if len(seen) <= most:
        return seen
    return seen.take(np.sort(generator(seed, "earlier").permutation(len(seen))[:most]))


def _ratio(seen: Observation, before: Look, after: Look, *, seed: int) -> Estimate:
    """Loss over the yardstick of holdout records that match these."""
    matching = match(after.of(seen), seed=seed)
    if not matching.enough:
        return Estimate.unknown()
    were, are = (one.holdout.scores.losses[matching.holdout] for one in (before, after))
    return forget_loss_ratio(seen.scores.losses[matching.forget], were, are, seed=seed)
