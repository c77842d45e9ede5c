"""From two looks at a model, before and after, to the measurements that the gates judge.

Pure: no model here, only what it answered. What compares forget records with never-seen ones (G1 to G3) uses the
forget records that found a match and the holdout records matched to them; what compares before with after uses whole
sets. Every interval is a bootstrap over records, seeded.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core.evaluation.bootstrap import Counts, Samples, bootstrap, weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.matching import Matching
from core.evaluation.observations import ClassAnswers, Observation, TokenAnswers
from core.evaluation.yardstick import yardstick
from core.unlearning.objective import matched_targets, mean_surprise, surprise
from core.unlearning.observing import Look

Measurements = dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the looks do not show."""

    matching: Matching
    pool: NDArray[np.integer]
    """Indices of retained records that were never aimed at and whose rises say what chance does."""
    displacement: float
    """How far the weights moved, as saved."""
    owed: float | None
    """What the ledger's kept steps owed of the forget objective, in nats; None for a method that promises nothing."""
    seed: int


def measure(before: Look, after: Look, facts: Facts) -> Measurements:
    """Every measurement that these two looks and facts allow, by name; nan where one cannot be said."""
    found = _changed(before, after, facts) | _useful(before, after, facts.seed)
    if len(facts.matching.holdout):
        found |= _forgotten(before, after, facts) | _members(after, facts)
    return found


# --- G0: something changed --------------------------------------------------------------------------------------


def _changed(before: Look, after: Look, facts: Facts) -> Measurements:
    gained = mean_surprise(after.forget.scores.losses) - mean_surprise(before.forget.scores.losses)
    rises = after.retain.scores.losses - before.retain.scores.losses
    found = {
        "displacement": Estimate.exact(facts.displacement),
        "specificity": specificity(after.forget.scores.losses - before.forget.scores.losses, rises[facts.pool], facts.seed),
        "gap_closed": _gap_closed(before, after, facts),
    }
    if facts.owed is not None:
        found["promise_kept"] = Estimate.exact(gained / facts.owed if facts.owed > 0 else math.nan)
    return found


def _gap_closed(before: Look, after: Look, facts: Facts) -> Estimate:
    """The way in surprise that the forget set went, over that to the strangers' losses matched to it by rank."""
    strangers = strangers_losses(before, after, facts.matching)
    if not len(strangers):
        return Estimate.unknown()
    start = _surprises(before.forget.scores.losses)
    target = _surprises(matched_targets(before.forget.scores.losses, strangers))
    if not target.mean() > start.mean():
        return Estimate.unknown()
    ways = np.stack([_surprises(after.forget.scores.losses) - start, target - start], axis=1)
    return weighted_bootstrap(_ratio_of_columns, ways, seed=facts.seed)


def strangers_losses(before: Look, after: Look, matching: Matching) -> NDArray[np.floating]:
    """Losses of the matched holdout now, scaled to have the yardstick as their mean, shape (m,); none without one."""
    were, are = (look.holdout.scores.take(matching.holdout) for look in (before, after))
    goal = yardstick(were, are)
    return are.losses * (goal / are.loss) if goal is not None else np.empty(0)


def _surprises(losses: NDArray[np.floating]) -> NDArray[np.float64]:
    return surprise(torch.from_numpy(losses.astype(np.float64))).numpy()


# --- G1, G2: as if never seen, and not beyond -------------------------------------------------------------------


def _forgotten(before: Look, after: Look, facts: Facts) -> Measurements:
    forget, holdout = _matched(after, facts.matching)
    were = before.holdout.scores.losses[facts.matching.holdout]
    both = np.stack([were, holdout.scores.losses], axis=1)
    found = {
        "forget_loss_ratio": weighted_bootstrap(_over_yardstick, forget.scores.losses, both, seed=facts.seed),
        "forget_loss_p95_ratio": weighted_bootstrap(
            _over_high_quantile, forget.scores.losses, holdout.scores.losses, seed=facts.seed
        ),
    }
    if isinstance(forget.answers, ClassAnswers):
        right = (forget.scores.correct.astype(float), holdout.scores.correct.astype(float))
        return found | {"forget_accuracy_gap": weighted_bootstrap(difference_of_means, *right, seed=facts.seed)}
    return found


def _matched(look: Look, matching: Matching) -> tuple[Observation, Observation]:
    return look.forget.take(matching.forget), look.holdout.take(matching.holdout)


def _over_yardstick(samples: Samples, counts: Counts) -> NDArray[np.floating]:
    """Mean forget loss over the geometric mean of the holdout's means, whose columns are before and now."""
    forget, holdout = (count @ sample / len(sample) for sample, count in zip(samples, counts, strict=True))
    return forget / np.sqrt(holdout[:, 0] * holdout[:, 1])


def _over_high_quantile(samples: Samples, counts: Counts) -> NDArray[np.floating]:
    """Mean of the first sample over the 95th percentile of the second."""
    return mean(samples[:1], counts[:1]) / quantile(0.95)(samples[1:], counts[1:])


def _ratio_of_columns(samples: Samples, counts: Counts) -> NDArray[np.floating]:
    """Sum of the first column over the sum of the second."""
    sums = counts[0] @ samples[0]
    return sums[:, 0] / sums[:, 1]


# --- G4: still useful -------------------------------------------------------------------------------------------


def _useful(before: Look, after: Look, seed: int) -> Measurements:
    found = {"retain_accuracy_drop": accuracy_drop(before.retain, after.retain, seed)}
    if len(after.holdout):
        found["holdout_accuracy_drop"] = accuracy_drop(before.holdout, after.holdout, seed)
    return found
