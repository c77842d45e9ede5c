"""What a model's published runs add up to since it was trained."""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from core.evaluation.drift import Drift, PastRun, drift
from core.registry.repository import LATEST, Versions
from core.runs.repository import Runs
from core.runs.tables import Run


def drift_of(tx: Session, model_id: str) -> Drift:
    """What unlearning has cost the model since its last registered version, and whether to train anew."""
    versions = Versions(tx)
    latest = versions.aliases(model_id).get(LATEST)
    holds = versions.lineage(model_id).holds(latest) if latest is not None else ()
    return drift([_past(run) for run in Runs(tx).published_since_training(model_id)], holds_unlearned_in=holds)


def _past(run: Run) -> PastRun:
    judged = {gate["status"] for gate in run.gates if gate.get("name") == "earlier_deletions"} - {"undecided"}
    return PastRun(
        forget_records=run.forget_records,
        retain_records=run.retain_records,
        retain_accuracy_drop=_drop(run.metrics or {}, "retain"),
        holdout_accuracy_drop=_drop(run.metrics or {}, "holdout"),
        earlier_forgotten=judged == {"passed"} if judged else None,
    )


def _drop(metrics: Mapping[str, Any], name: str) -> float:
    """Accuracy before − after of one set; nan where either was not measured."""
    before, after = (_accuracy(metrics.get(when), name) for when in ("before", "after"))
    return before - after


def _accuracy(measured: Any, name: str) -> float:
    try:
        return float(measured[name]["accuracy"])
    except (KeyError, TypeError):
        return math.nan
