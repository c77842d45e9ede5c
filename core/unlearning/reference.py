"""The model that never met the forget set, trained for comparison when the job asks for it and the model is small."""

import copy
from dataclasses import replace
from typing import Any, Final

from core.evaluation.average_gap import average_gap
from core.evaluation.forget_quality import forget_quality
from core.evaluation.matching import Matching
from core.evaluation.membership import membership_auc
from core.evaluation.privleak import privleak
from core.evaluation.tug_of_war import tug_of_war
from core.unlearning.bench import Bench
from core.unlearning.failures import Cancelled, UnlearningError
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters
from core.unlearning.measuring import finite, matched
from core.unlearning.models import LoadedModel
from core.unlearning.observing import Look
from core.unlearning.peer_course import PeerCourse

MOST_WEIGHTS: Final = 20_000_000
"""A larger model is not trained anew beside a run."""


def check_reference(model: LoadedModel, parameters: Parameters) -> None:
    """Raises ``UnlearningError`` when a reference is asked for that this model cannot have."""
    if parameters.reference == "none":
        return
    if model.is_adapter:
        raise UnlearningError("bad_parameters", "The reference 'retrain' needs a model with full weights.")
    weights = sum(weight.numel() for weight in model.model.parameters())
    if weights > MOST_WEIGHTS:
        raise UnlearningError(
            "bad_parameters",
            f"The reference 'retrain' is for models of at most {MOST_WEIGHTS:,} weights; this one has {weights:,}.",
        )


def retrained(bench: Bench, baseline: Baseline, parameters: Parameters) -> Bench:
    """The same bench with a copy of its model, trained from nothing on the retain set; ``bench`` stays as it is.

    Exact: the method ``retrain`` with the run's seed, epochs and rate. Raises ``Cancelled``.
    """
    twin = replace(bench.model, model=copy.deepcopy(bench.model.model))
    bench = replace(bench, model=twin)
    # A reference may know the retain set less well than the original; it is not to be rolled back for that.
    free = replace(parameters, method="retrain", retain_accuracy_budget=1.0)
    run = PeerCourse(bench, baseline, free).run(lambda _: None)
    if run.stop_reason == "cancelled":
        raise Cancelled
    return bench


def compare(unlearned: Look, reference: Look, matching: Matching) -> dict[str, Any]:
    """The contract's ``metrics.reference``: how far the unlearned model is from the one that never met the forget set.

    The losses of its forget set are compared for ``ks_p_value``; a p-value above 0.05 cannot tell the two apart.
    """
    ours, theirs = (_accuracies(look) for look in (unlearned, reference))
    aucs = [_loss_auc(look, matching) for look in (unlearned, reference)]
    figures = [{**accuracies, "membership": auc} for accuracies, auc in zip((ours, theirs), aucs, strict=True)]
    return {
        "method": "retrain",
        "forget_loss": finite(reference.forget.scores.loss),
        **{f"{name}_accuracy": finite(value) for name, value in theirs.items()},
        "membership_auc": finite(aucs[1]),
        "ks_p_value": finite(forget_quality(unlearned.forget.scores.losses, reference.forget.scores.losses)),
        "tug_of_war": finite(tug_of_war(ours, theirs)),
        "average_gap": finite(average_gap(*figures)),
        "privleak": finite(privleak(aucs[0], retrained=aucs[1])),
    }


def _accuracies(look: Look) -> dict[str, float]:
    return {name: getattr(look, name).scores.accuracy for name in ("forget", "retain", "holdout")}


def _loss_auc(look: Look, matching: Matching) -> float:
    forget, holdout = matched(look, matching)
    return membership_auc(forget.scores.losses, holdout.scores.losses)
