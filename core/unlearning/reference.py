"""The model that never met the forget set, trained for comparison when the job asks for it and the model is small."""

import copy
from dataclasses import replace
from typing import Final

from core.unlearning.bench import Bench
from core.unlearning.failures import Cancelled, UnlearningError
from core.unlearning.guard import Baseline
from core.unlearning.job import Parameters
from core.unlearning.models import LoadedModel
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
