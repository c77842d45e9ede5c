"""The contract's ``metrics`` blocks: how a model treats the three sets."""

import math

from core.evaluation.membership import membership_auc
from core.evaluation.scores import SetScores

Numbers = dict[str, float | None]


def summarise(
    forget: SetScores, retain: SetScores, holdout: SetScores, *, perplexity: bool
) -> dict[str, Numbers | float | None]:
    """One ``before`` or ``after`` block: loss, accuracy (and perplexity) of each set, and the membership AUC.

    None stands for what cannot be said: an empty set, or a number that is not finite.
    """
    sets = {"forget": forget, "retain": retain, "holdout": holdout}
    blocks: dict[str, Numbers | float | None] = {name: _numbers(scores, perplexity) for name, scores in sets.items()}
    return blocks | {"membership_auc": _finite(membership_auc(forget.losses, holdout.losses))}


def _numbers(scores: SetScores, perplexity: bool) -> Numbers:
    numbers = {"loss": _finite(scores.loss), "accuracy": _finite(scores.accuracy)}
    return numbers | ({"perplexity": _finite(scores.perplexity)} if perplexity else {})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
