"""From two looks at a model, before and after, to the measurements that the gates judge.

Pure: no model here, only what it answered. What compares forget records with never-seen ones (G1 to G3) uses the
forget records that found a match and the holdout records matched to them; what compares before with after uses whole
sets. Intervals are bootstraps over records, seeded; what is said of the whole forget set and of nothing beyond it (G0)
is exact.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core.evaluation.bootstrap import weighted_bootstrap
from core.evaluation.estimates import Estimate
from core.evaluation.exact_memorisation import exact_memorisation
from core.evaluation.extraction_strength import extraction_strength
from core.evaluation.gap_closed import gap_closed
from core.evaluation.loss_ratio import forget_loss_p95_ratio, forget_loss_ratio
from core.evaluation.matching import Matching
from core.evaluation.membership import attack_auc
from core.evaluation.min_k import min_k
from core.evaluation.min_k_plus import min_k_plus
from core.evaluation.observations import ClassAnswers, Observation, TokenAnswers
from core.evaluation.paired import accuracy_drop, perplexity_ratio
from core.evaluation.specificity import specificity
from core.evaluation.statistics import difference_of_means
from core.evaluation.true_positive_rate import attack_tpr
from core.evaluation.worst_class_drop import worst_class_drop
from core.unlearning.objective import ForgetObjective, matched_targets, standing, surprise, value_of
from core.unlearning.observing import Look

Measurements = dict[str, Estimate]
Scores = NDArray[np.float64]
"""One number a record, (n,)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the looks do not show."""

    matching: Matching
    pool: NDArray[np.integer]
    """Indices of retained records that were never aimed at; their changes show what happens to any record."""
    displacement: float
    """How far the weights moved, as saved."""
    owed: float | None
    """What the ledger's kept steps owed of the forget objective, in nats; None for a method that promises nothing."""
    seed: int


def measure(before: Look, after: Look, facts: Facts) -> Measurements:
    """Every measurement that these looks allow, by name; one that cannot be said is nan.

    Without matched records there is nothing for G1 to G3; without a holdout nothing of it in G4.
    """
    found = _changed(before, after, facts) | _useful(before, after, facts.seed)
    if not len(facts.matching.holdout):
        return found
    return found | _as_never_seen(before, after, facts) | _membership(after, facts)


# --- G0: something changed --------------------------------------------------------------------------------------


def _changed(before: Look, after: Look, facts: Facts) -> Measurements:
    were, are = before.forget.scores.losses, after.forget.scores.losses
    others = after.retain.scores.losses - before.retain.scores.losses
    found = {
        "displacement": Estimate.exact(facts.displacement),
        "gap_closed": _gap_closed(before, after, facts),
        "specificity": specificity(are - were, others[facts.pool], seed=facts.seed),
    }
    if facts.owed is None:
        return found
    strangers = _scaled(_strangers(before, after, facts.matching))
    gained = _objective(are, strangers) - _objective(were, strangers)
    return found | {"promise_kept": Estimate.exact(gained / facts.owed if facts.owed > 0 else math.nan)}


def _objective(losses: NDArray[np.floating], strangers: NDArray[np.floating]) -> float:
    """The forget objective of a set with these losses, at the targets that it would have now."""
    return value_of(ForgetObjective.matched(losses, strangers), losses)


def _gap_closed(before: Look, after: Look, facts: Facts) -> Estimate:
    """Its interval is from targets of as many strangers as there are forget records: one such set is what they lack."""
    forget, strangers = before.forget.scores.losses, _strangers(before, after, facts.matching)
    start, end = surprises(forget), surprises(after.forget.scores.losses)

    def closed(some: NDArray[np.floating]) -> float:
        goals = _targets(forget, some)
        return math.nan if goals is None else gap_closed(start, end, surprises(goals))

    value = closed(strangers)
    if math.isnan(value):
        return Estimate.unknown()
    random = np.random.default_rng(facts.seed)
    drawn = [closed(strangers[random.integers(len(strangers), size=len(forget))]) for _ in range(_GAP_DRAWS)]
    if np.isnan(drawn).any():
        return Estimate.unbounded(value)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, min(value, float(low)), max(value, float(high)))


_GAP_DRAWS = 200
"""Each draw sorts the strangers anew, which takes 10 ms of 100,000 records."""


def targets(before: Look, after: Look, matching: Matching) -> Scores | None:
    """The loss in nats that each forget record should have, ranked as the run ranks them; None without a holdout."""
    ranks = standing(before.forget.scores.losses, after.forget.scores.losses)
    return _targets(ranks, _strangers(before, after, matching))


def _targets(forget: NDArray[np.floating], strangers: NDArray[np.floating]) -> Scores | None:
    """``_scaled`` strangers matched by rank to losses of the forget set; None when they have no yardstick."""
    goals = _scaled(strangers)
    return matched_targets(forget, goals) if len(goals) else None


def _scaled(strangers: NDArray[np.floating]) -> Scores:
    """Strangers' losses now, scaled to have the yardstick as their mean, (m,); none when they have no yardstick.

    strangers: (m, 2), before and now.
    """
    were, are = strangers.mean(axis=0) if len(strangers) else (math.nan, math.nan)
    goal = math.sqrt(were * are) if math.isfinite(were * are) and were * are > 0 else None
    return np.empty(0) if goal is None else np.multiply(strangers[:, 1], goal / are, dtype=np.float64)


def _strangers(before: Look, after: Look, matching: Matching) -> NDArray[np.floating]:
    """Losses of the matched holdout, (m, 2): before and now."""
    return np.stack([seen.holdout.scores.losses[matching.holdout] for seen in (before, after)], axis=1)


def finite(value: float) -> float | None:
    """``value``, or None if JSON could not hold it."""
    return value if math.isfinite(value) else None


def surprises(losses: NDArray[np.floating]) -> Scores:
    """The surprise of each loss; see ``core.unlearning.objective``."""
    return surprise(torch.from_numpy(losses.astype(np.float64))).numpy()


# --- G1, G2: as if never seen, and not beyond -------------------------------------------------------------------


def _as_never_seen(before: Look, after: Look, facts: Facts) -> Measurements:
    forget, holdout = matched(after, facts.matching)
    were = before.holdout.scores.losses[facts.matching.holdout]
    losses, strangers = forget.scores.losses, holdout.scores.losses
    found = {
        "forget_loss_ratio": forget_loss_ratio(losses, were, strangers, seed=facts.seed),
        "forget_loss_p95_ratio": forget_loss_p95_ratio(losses, strangers, seed=facts.seed),
    }
    gaps = {name: (of(forget), of(holdout)) for name, of in _GAPS[type(forget.answers)].items()}
    return found | {
        name: weighted_bootstrap(difference_of_means, *pair, seed=facts.seed) for name, pair in gaps.items()
    }


def matched(look: Look, matching: Matching) -> tuple[Observation, Observation]:
    """The forget records that found a match, and the holdout records matched to them."""
    return look.forget.take(matching.forget), look.holdout.take(matching.holdout)


def accuracies(seen: Observation) -> Scores:
    """Share of each record's answers that are right."""
    return seen.scores.correct / seen.scores.counted


def memorised(seen: Observation) -> Scores:
    """Exact memorisation of each record; nan for classes."""
    return _of_tokens(seen, lambda said, i: exact_memorisation(said.right[i]))


def extracted(seen: Observation) -> Scores:
    """Extraction strength of each record; nan for classes."""
    return _of_tokens(seen, lambda said, i: extraction_strength(said.right[i]))


_GAPS: dict[type, dict[str, Callable[[Observation], Scores]]] = {
    ClassAnswers: {"forget_accuracy_gap": accuracies},
    TokenAnswers: {"extraction_gap": extracted, "memorisation_gap": memorised},
}
"""What a forget record may not have more of than a never-seen one, by kind of answer."""


def _of_tokens(seen: Observation, of: Callable[[TokenAnswers, slice], float]) -> Scores:
    """``of`` the tokens of each record."""
    if not isinstance(seen.answers, TokenAnswers):
        return np.full(len(seen), math.nan)
    said = seen.answers
    return np.array([of(said, here) for here in said.slices()], dtype=np.float64)


# --- G3: told from never-seen records by an attack --------------------------------------------------------------


def _membership(after: Look, facts: Facts) -> Measurements:
    forget, holdout = matched(after, facts.matching)
    found: Measurements = {}
    for name, attack in ATTACKS[type(forget.answers)].items():
        ours, theirs = attack(forget), attack(holdout)
        found[f"membership_auc_{name}"] = attack_auc(ours, theirs, seed=facts.seed)
        found[f"membership_tpr_{name}"] = attack_tpr(ours, theirs, seed=facts.seed)
    return found


def _confidence(seen: Observation) -> Scores:
    return seen.answers.confidence if isinstance(seen.answers, ClassAnswers) else np.full(len(seen), math.nan)


def _min_k(seen: Observation) -> Scores:
    return _of_tokens(seen, lambda said, i: min_k(said.log_probabilities[i]))


def _min_k_plus(seen: Observation) -> Scores:
    return _of_tokens(seen, lambda said, i: min_k_plus(said.log_probabilities[i], said.expected[i], said.spread[i]))


def _negative_loss(seen: Observation) -> Scores:
    return -seen.scores.losses.astype(np.float64)


ATTACKS: dict[type, dict[str, Callable[[Observation], Scores]]] = {
    ClassAnswers: {"loss": _negative_loss, "confidence": _confidence},
    TokenAnswers: {"loss": _negative_loss, "min_k": _min_k, "min_k_plus": _min_k_plus},
}
"""Membership attacks by kind of answer: each gives every record a score, higher for what looks like a member."""


# --- G4: still useful -------------------------------------------------------------------------------------------


def _useful(before: Look, after: Look, seed: int) -> Measurements:
    found = {"retain_accuracy_drop": accuracy_drop(before.retain.scores, after.retain.scores, seed=seed)}
    if isinstance(after.retain.answers, TokenAnswers):
        found["retain_perplexity_ratio"] = perplexity_ratio(before.retain.scores, after.retain.scores, seed=seed)
    if not len(after.holdout):
        return found
    found["holdout_accuracy_drop"] = accuracy_drop(before.holdout.scores, after.holdout.scores, seed=seed)
    if isinstance(after.holdout.answers, ClassAnswers):
        were, are = before.holdout.scores.correct, after.holdout.scores.correct
        labels = after.holdout.answers.labels
        found["worst_class_drop"] = worst_class_drop(were, are, labels, seed=seed).drop
    return found
