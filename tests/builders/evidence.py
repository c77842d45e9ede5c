"""A run that has ended well, in rows only, and what is signed about it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from core.certificates import signing
from core.certificates.canonical import canonical
from core.certificates.claims import Decision, Facts, Weights, build
from core.datasets.tables import Dataset
from core.evaluation.gates import judge
from core.evaluation.limits import Limits
from core.evaluation.verdict import verdict
from core.registry.publishing import folder_digest
from core.registry.tables import Model, ModelVersion
from core.runs.tables import Run
from core.unlearning.job import StoredFile

AT = datetime(2031, 3, 1, 11, 12, 40, tzinfo=UTC)
SALT = b"s" * 32
ISSUER = "https://unlearn.example"
KEY = signing.new_key()
JWKS = {"keys": [signing.public(KEY)]}
STEPS = (
    {"step": 1, "accepted": True, "promised_forget_gain": 0.5, "realised_forget_gain": 0.75},
    {"step": 2, "accepted": False, "promised_forget_gain": 9.0, "realised_forget_gain": -1.0},
    {"step": 3, "accepted": True, "promised_forget_gain": 0.25, "realised_forget_gain": 0.5},
)


class Number:
    """A measurement, as the evaluation gives it."""

    def __init__(self, value: float, low: float, high: float) -> None:
        self.value, self.low, self.high = value, low, high


MEASURED = {
    "displacement": (0.4, 0.4, 0.4),
    "gap_closed": (0.98, 0.9, 1.02),
    "specificity": (0.0, 0.0, 0.0),
    "forget_loss_ratio": (1.0, 0.9, 1.1),
    "retain_accuracy_drop": (0.002, 0.0, 0.004),
    "membership_auc_loss": (0.5, 0.44, 0.56),
}
UNCHANGED = {"displacement": (0.0, 0.0, 0.0), "gap_closed": (0.0, 0.0, 0.0), "forget_loss_ratio": (0.01, 0.005, 0.02)}


def judged() -> dict[str, Any]:
    """``gates``, ``verdict`` and ``verdict_reasons`` of these measurements: passed with a warning."""
    after = {name: Number(*numbers) for name, numbers in MEASURED.items()}
    before = {name: Number(*numbers) for name, numbers in UNCHANGED.items()}
    gates = judge(after, before, Limits())  # type: ignore[arg-type]
    found = verdict(gates, matched=True)
    assert found.verdict == "passed_with_warnings"
    return {
        "gates": [gate.as_dict() for gate in gates],
        "verdict": found.verdict,
        "verdict_reasons": list(found.reasons),
    }


def metrics() -> dict[str, Any]:
    """As a run has them, with controls and a table that names a record."""
    after = {name: dict(zip(("value", "low", "high"), numbers, strict=True)) for name, numbers in MEASURED.items()}
    return {
        "before": {"forget": {"loss": 0.01, "accuracy": 1.0}, "membership_auc": 0.93},
        "after": {"forget": {"loss": 1.1, "accuracy": 0.6}, "membership_auc": 0.5, "measurements": after},
        "controls": {"no_op": {"verdict": "failed"}, "placebo": {"records": 5, "verdict": "failed"}},
        "worst_records": [{"record_id": "r-1", "loss_before": 0.0, "loss_after": 0.2}],
    }


def run(**fields: Any) -> Run:
    """The run."""
    values: dict[str, Any] = {
        "id": "run_1",
        "workspace_id": "ws_1",
        "model_id": "mdl_1",
        "mode": "unlearn",
        "status": "succeeded",
        "base_version": 1,
        "published_version": 2,
        "policy_name": "default",
        "policy": {"parameters": {"seed": 7}, "publish_on": ["passed"], "needs_review_on": []},
        "parameters": {"method": "hamu-q", "seed": 7, "learning_rate": 1e-3},
        "forget_records": 3,
        "retain_records": 20,
        "selection": {"at": "2031-03-01T11:00:00+00:00", "forget": "1" * 64, "retain": "2" * 64, "holdout": "3" * 64},
        "stop_reason": "target_reached",
        "hardness": {"verdict": "hard", "kappa": 0.01},
        "metrics": metrics(),
        "worker": {"device": "cpu", "torch": "2", "threads": 1, "code": {"version": "0.1.0", "commit": None}},
        "timings": {"load_s": 1.5},
        "attempt": 1,
        "created_at": AT - timedelta(minutes=2),
        "started_at": AT - timedelta(minutes=1),
        "finished_at": AT,
        **judged(),
        **fields,
    }
    return Run(**values)


def facts(**fields: Any) -> Facts:
    """All that is known of the run; ``fields`` change the run."""

    def weights(number: int, sha: str) -> Weights:
        files = (StoredFile("model.safetensors", f"file:///v{number}/model.safetensors", 10, sha * 64),)
        return Weights(ModelVersion(version=number, digest=folder_digest(files)), files)

    return Facts(
        run=run(**fields),
        model=Model(name="digits", task="image-classification"),
        dataset=Dataset(name="digits", fingerprint="f" * 64),
        fingerprint="f" * 64,
        base=weights(1, "a"),
        published=weights(2, "b") if fields.get("published_version", 2) else None,
        requests=(("del_1", AT - timedelta(hours=1)),),
        record_ids=("r-1", "r-2", "r-3"),
        steps=STEPS,
        decisions=(Decision("del_1", True, "key_1", "looks good", AT),),
    )


def claims(**fields: Any) -> dict[str, Any]:
    """The claims about it, as plain JSON."""
    made = build(facts(**fields), id="crt_1", issuer=ISSUER, salt=SALT, at=AT + timedelta(seconds=5))
    return json.loads(canonical(made))


def signed(content: object) -> str:
    """Anything, signed by the issuer."""
    return signing.sign(canonical(content), KEY)
