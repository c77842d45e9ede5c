"""How far a model has drifted by unlearning again and again, and when to train anew instead.

No published method keeps a model's utility through any number of deletions (MUSE, arXiv:2407.06460), and each run is
judged by its own base, so small losses that every run may take add up unseen. Here they are added up.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class PastRun:
    """What one published run did. Drops are accuracy before − after on the same records; nan when not measured."""

    forget_records: int
    retain_records: int
    retain_accuracy_drop: float
    holdout_accuracy_drop: float
    earlier_forgotten: bool | None
    """Whether earlier deletions were still forgotten after it; None when that could not be told."""


@dataclass(frozen=True, slots=True)
class RetrainRule:
    """Any of these calls for training anew."""

    accuracy_drop: float = 0.03
    """Accuracy lost since training, on retained or on held-out records, above this: three runs' whole budgets."""
    erased_share: float = 0.1
    """Share of the training records erased since training, above this: unlearning is measured on far smaller shares."""


RULE: Final = RetrainRule()


@dataclass(frozen=True, slots=True)
class Drift:
    """What has added up since the model was trained; ``reasons`` says in sentences why the advice is ``retrain``."""

    runs: int
    erased_records: int
    erased_share: float
    retain_accuracy_drop: float
    holdout_accuracy_drop: float
    advice: Literal["keep", "retrain"]
    reasons: tuple[str, ...]


def drift(past: Sequence[PastRun], rule: RetrainRule = RULE, *, holds_unlearned_in: Sequence[int] = ()) -> Drift:
    """Add up the published runs since training, oldest first.

    ``holds_unlearned_in``: versions in which something was unlearned that the latest one holds, after a rollback.

    Drops are summed run by run, each measured on one set before and after, because the sets change from run to run; a
    run without a measurement adds nothing. The share is of the erased records together with those that the last run
    retained. Earlier deletions are those that the last run looked at.
    """
    erased = sum(run.forget_records for run in past)
    left = past[-1].retain_records if past else 0
    share = erased / (erased + left) if erased else 0.0
    retain = _total(run.retain_accuracy_drop for run in past)
    holdout = _total(run.holdout_accuracy_drop for run in past)
    reasons = [
        f"{name} accuracy has fallen by {drop:.1%} since training, more than {rule.accuracy_drop:.1%}."
        for name, drop in (("Retain", retain), ("Holdout", holdout))
        if drop > rule.accuracy_drop
    ]
    if share > rule.erased_share:
        reasons.append(f"{share:.1%} of the training records have been erased, more than {rule.erased_share:.1%}.")
    if past and past[-1].earlier_forgotten is False:
        reasons.append("The last run brought back records that earlier runs had forgotten.")
    if holds_unlearned_in:
        versions = ", ".join(map(str, holds_unlearned_in))
        reasons.append(f"By a rollback the latest version holds data again that was unlearned in version {versions}.")
    return Drift(len(past), erased, share, retain, holdout, "retrain" if reasons else "keep", tuple(reasons))


def _total(drops: Iterable[float]) -> float:
    return math.fsum(drop for drop in drops if not math.isnan(drop))
