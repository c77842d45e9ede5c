"""Hardness assessments on the wire."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.schemas.common import Time, WireIn, WireOut
from api.schemas.deletion_requests import FailureOut, Id, IdentityIn, Short
from core.access.sandboxes import is_sandbox
from core.assessments.commands import AssessmentView, SubmitAssessment
from core.runs.lifecycle import Status as RunStatus

Status = Literal["queued", "preparing", "assessing", "succeeded", "failed", "cancelled"]
Verdict = Literal["easy", "hard", "irreconcilable"]

_ID = "hrd_01k9d3v6m2q8r4t6w8y0a2c4e6"
_RESULT: JsonDict = {
    "verdict": "hard",
    "advice": "Both goals can be improved together: the quota is within what is free of retain cost.",
    "kappa": 0.011,
    "kappa_1": -0.42,
    "kappa_2": 0.71,
    "forget_capacity": 0.84,
    "free_capacity": 0.79,
    "quota": 0.42,
    "stopping_margin": 0.37,
    "cosine": 0.07,
    "cosine_low": 0.03,
    "cosine_high": 0.12,
    "cosine_spread": 0.09,
    "batches": 5,
    "branches": {"direct": 0.1, "rectified": 0.9, "colinear": 0.0, "infeasible": 0.0},
    "retain_cost_per_step": -1.2e-6,
    "layers": [{"name": "classifier.1.weight", "kappa": 0.004, "cosine": 0.09, "retain_norm": 0.2, "forget_norm": 0.3}],
    "forecast": {
        "why": None,
        "gain_wanted": 0.66,
        "gain_of_first_step": 3.9e-4,
        "within_max_steps": True,
        "steps": {"low": 17, "expected": 29, "high": 53},
        "seconds_per_step": 0.012,
        "seconds": {"low": 0.5, "expected": 0.7, "high": 1.8},
        "retain_loss_change": {"low": -0.0017, "expected": -0.0010, "high": -0.0009},
    },
}
_ANSWER: JsonDict = {
    "id": _ID,
    "status": "succeeded",
    "model": "digits-classifier",
    "base_version": 1,
    "policy": "default",
    "parameters": {"learning_rate": 1e-3, "quota_ratio": 0.5, "max_steps": 200, "forget_target_ratio": 0.95},
    "record_count": 36,
    "left_out": {"erased": 0, "pending_erasure": 0, "held_out": 0},
    "retain_records": 1401,
    "attempt": 1,
    "cancel_requested": False,
    "result": _RESULT,
    "metrics": {"forget": {"loss": 0.002, "accuracy": 1.0}, "membership_auc": 0.55},
    "worker": {"device": "cuda:0 NVIDIA H200", "torch": "2.13.0"},
    "timings": {"fetch_s": 0.4, "load_s": 1.2, "assess_s": 0.6},
    "error": None,
    "test": False,
    "created_at": "2031-03-01T11:12:40.120Z",
    "started_at": "2031-03-01T11:12:41.020Z",
    "finished_at": "2031-03-01T11:12:44.020Z",
    "status_url": f"https://unlearn.example/v1/hardness-assessments/{_ID}",
}


class HardnessAssessmentIn(WireIn):
    """Whose unlearning is to be assessed: the selectors of a deletion request, and one model."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "digits-classifier", "subject_ids": ["writer-03"]}]}
    )

    model: Short
    dataset: Short | None = Field(None, description="unset: the model's")
    record_ids: list[Id] = Field(default_factory=list[Id])
    subject_ids: list[Id] = Field(default_factory=list[Id])
    identities: list[IdentityIn] = Field(default_factory=list[IdentityIn])
    policy: Short | None = Field(None, description="whose quota and target to assess for; unset: the model's")

    def to_command(self) -> SubmitAssessment:
        """What the service is told."""
        return SubmitAssessment(
            model=self.model,
            dataset=self.dataset,
            record_ids=tuple(self.record_ids),
            subject_ids=tuple(self.subject_ids),
            identities=tuple(one.to_identity() for one in self.identities),
            policy=self.policy,
        )


class LeftOutOut(WireOut):
    """Named records that are not part of the assessment."""

    erased: int = Field(description="unlearned before")
    pending_erasure: int = Field(description="covered by a deletion request that has not ended")
    held_out: int = Field(description="the model never learnt from them")


class LayerOut(WireOut):
    """One tensor of weights; means over the minibatches, gradients not clipped."""

    name: str
    kappa: float | None = Field(description="r·f")
    cosine: float | None
    retain_norm: float | None = Field(None, description="‖r‖")
    forget_norm: float | None = Field(None, description="‖f‖")


class StepsRangeOut(WireOut):
    """A guess at a number of steps."""

    low: int
    expected: int
    high: int


class RangeOut(WireOut):
    """A guess with its spread."""

    low: float | None
    expected: float | None
    high: float | None


class ForecastOut(WireOut):
    """What a run would take: a prediction from first gradients, not a promise."""

    why: str | None = Field(
        None, description="why nothing can be predicted: `no_holdout`, or the stop reason that a run would meet at once"
    )
    gain_wanted: float | None = Field(None, description="way to the policy's target, in nats of the forget objective")
    gain_of_first_step: float | None = Field(None, description="what the first step promises of it")
    within_max_steps: bool | None = Field(None, description="whether the expected steps are within the policy's limit")
    steps: StepsRangeOut | None = Field(None, description="to the policy's target, `max_steps` at most")
    seconds_per_step: float | None = Field(None, description="from the measured seconds of both gradients")
    seconds: RangeOut | None = Field(None, description="on this worker's device, without moving files")
    retain_loss_change: RangeOut | None = Field(
        None, description="first-order change of the retain loss on the way, in nats; negative: it improves"
    )


class AssessmentResultOut(WireOut):
    """What was measured, in units of clipped gradients, and what follows from it. Medians over retain minibatches."""

    verdict: Verdict
    advice: str | None = None
    kappa: float | None = Field(None, description="κ = Σ r·f, the hardness")
    kappa_1: float | None = Field(None, description="κ₁, at or below it easy")
    kappa_2: float | None = Field(None, description="κ₂, above it irreconcilable")
    forget_capacity: float | None = Field(None, description="S, the most that a step could gain, over its rate")
    free_capacity: float | None = Field(None, description="C, what of S costs the retain set nothing to first order")
    quota: float | None = Field(None, description="Q, the gain that the policy asks of a step, over its rate")
    stopping_margin: float | None = Field(None, description="C - Q")
    cosine: float | None = Field(None, description="between the two gradients")
    cosine_low: float | None = None
    cosine_high: float | None = None
    cosine_spread: float | None = Field(None, description="range of the cosine over the minibatches")
    batches: int | None = Field(None, description="retain minibatches that were looked at")
    branches: dict[str, float] = Field({}, description="share of blocks in each branch of the solution")
    retain_cost_per_step: float | None = Field(
        None, description="predicted first-order change of the retain loss in the first step, in nats"
    )
    layers: list[LayerOut] = Field([], description="those that forgetting pulls at most first, up to 200")
    forecast: ForecastOut | None = None


class HardnessAssessmentOut(WireOut):
    """How hard some records are to unlearn from a model. Nothing is erased and no record changes its state."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    id: str
    status: Status
    model: str
    base_version: int = Field(description="the version that is assessed: the latest when the work begins")
    policy: str
    parameters: dict[str, Any]
    record_count: int = Field(description="active training records that are assessed")
    left_out: LeftOutOut
    retain_records: int = Field(description="0 until a worker has looked")
    attempt: int = Field(description="0 until a worker takes it; grows when another must take over")
    cancel_requested: bool
    result: AssessmentResultOut | None = Field(description="null until it has succeeded")
    metrics: dict[str, Any] | None = Field(description="losses and membership AUC of the model as it is")
    worker: dict[str, Any] | None
    timings: dict[str, Any]
    error: FailureOut | None
    test: bool = Field(description="of a test key: nothing was measured")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    status_url: str

    @classmethod
    def of(cls, view: AssessmentView, *, base_url: str) -> Self:
        """The assessment as it is."""
        row, left_out = view.run, view.left_out
        return cls(
            id=row.id,
            status=row.status,  # pyright: ignore[reportArgumentType]
            model=view.model,
            base_version=row.base_version,
            policy=row.policy_name,
            parameters=row.parameters,
            record_count=row.forget_records,
            left_out=LeftOutOut.model_validate(left_out),
            retain_records=row.retain_records,
            attempt=row.attempt,
            cancel_requested=row.cancel_requested_at is not None,
            result=_result(row.hardness) if row.status == RunStatus.SUCCEEDED and row.hardness else None,
            metrics=(row.metrics or {}).get("before"),
            worker=row.worker,
            timings=row.timings,
            error=FailureOut(code=row.error["code"], message=row.error["message"]) if row.error else None,
            test=is_sandbox(row.workspace_id),
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            status_url=f"{base_url}/v1/hardness-assessments/{row.id}",
        )


def _result(hardness: Mapping[str, Any]) -> AssessmentResultOut:
    # What a newer or older worker wrote besides is left out.
    return AssessmentResultOut.model_validate(hardness, extra="ignore")
