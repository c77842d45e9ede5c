"""Runs on the wire."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from api.schemas.common import Time, WireOut
from api.schemas.deletion_requests import FailureOut
from core.access.sandboxes import is_sandbox
from core.runs.service import RunView
from core.runs.tables import RunScore

Status = Literal[
    "queued",
    "preparing",
    "assessing",
    "unlearning",
    "evaluating",
    "publishing",
    "succeeded",
    "needs_review",
    "failed",
    "cancelled",
]

_MEASURED: JsonDict = {"loss": 0.01, "accuracy": 1.0}
_EXAMPLE: JsonDict = {
    "id": "run_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "mode": "unlearn",
    "model": "digits-classifier",
    "base_version": 1,
    "published_version": 2,
    "status": "succeeded",
    "method": "hamu-q",
    "policy": "default",
    "parameters": {"learning_rate": 1e-3, "quota_ratio": 0.5, "max_steps": 200, "batch_size": 128, "seed": 0},
    "deletion_request_ids": ["del_01k9d3v6m2q8r4t6w8y0a2c4e6"],
    "forget_records": 12,
    "retain_records": 1425,
    "attempt": 1,
    "cancel_requested": False,
    "progress": {"phase": "succeeded", "step": 37, "max_steps": 200, "eta_seconds": None},
    "stop_reason": "target_reached",
    "hardness": {"verdict": "hard", "kappa": 0.01, "kappa_1": -0.5, "kappa_2": 0.9, "cosine": 0.31},
    "metrics": {"before": {"forget": _MEASURED}, "after": {"forget": {"loss": 1.9, "accuracy": 0.5}}},
    "gates": [
        {
            "name": "retain_accuracy_drop",
            "group": "G4",
            "limit": 0.01,
            "value": 0.004,
            "passed": True,
            "low": 0.001,
            "high": 0.007,
            "at_least": None,
            "at_most": 0.01,
            "status": "passed",
            "severity": "important",
            "no_op": 0.0,
            "no_op_status": "passed",
        }
    ],
    "verdict": "passed_with_warnings",
    "verdict_reasons": [
        "membership_auc_loss is 0.53 (0.44 to 0.61): too few records to tell whether it is 0.45 to 0.55."
    ],
    "unmet_targets": [],
    "worker": {"device": "cuda:0 NVIDIA H200", "torch": "2.13.0"},
    "timings": {"load_s": 1.2, "unlearn_s": 8.5, "evaluate_s": 0.9, "publish_s": 0.4},
    "error": None,
    "test": False,
    "created_at": "2031-03-01T11:12:40.120Z",
    "started_at": "2031-03-01T11:12:41.020Z",
    "finished_at": "2031-03-01T11:13:01.020Z",
}


class ProgressOut(WireOut):
    """Where a run stands."""

    phase: str = Field(description="the run's status; while a worker holds it, what it is doing")
    step: int | None = Field(None, description="steps done")
    max_steps: int | None = None
    eta_seconds: float | None = Field(None, description="until the last step, if it comes to that")


class RunOut(WireOut):
    """One execution of unlearning: one base version, a batch of requests of one model, at most one new version."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    mode: Literal["unlearn", "assess"] = Field(description="`assess`: the work of a hardness assessment, with its id")
    model: str
    base_version: int
    published_version: int | None
    status: Status
    method: str
    policy: str = Field(description="name of the policy; its values are in `parameters`")
    parameters: dict[str, Any]
    deletion_request_ids: list[str]
    forget_records: int
    retain_records: int
    attempt: int = Field(description="0 until a worker takes it; grows when another must take over")
    cancel_requested: bool
    progress: ProgressOut
    stop_reason: str | None
    hardness: dict[str, Any] | None
    metrics: dict[str, Any] | None
    gates: list[dict[str, Any]] = Field(
        description="each a measurement after the run with its 95 % interval (`low`, `high`), its margin (`at_least`, "
        "`at_most`; `limit` is the edge nearest to the value), `status`: `passed`, `failed`, `undecided`, its "
        "`severity`, and `no_op`: the same measurement on the unchanged weights"
    )
    verdict: Literal["passed", "passed_with_warnings", "failed", "inconclusive"] | None = Field(
        description="what the gates come to; null while nothing has been judged"
    )
    verdict_reasons: list[str] = Field(description="one sentence for each gate that kept the verdict from being better")
    unmet_targets: list[dict[str, Any]] = Field(
        description="targets of the policy that the run did not reach, each with `name`, `value` (null: not "
        "measurable), `limit` and `reason`"
    )
    worker: dict[str, Any] | None
    timings: dict[str, Any]
    error: FailureOut | None
    test: bool = Field(description="of a test key: nothing was computed, and the verdict is made up")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None

    @classmethod
    def of(cls, view: RunView) -> Self:
        """The run as it is."""
        row = view.run
        return cls(
            id=row.id,
            mode=row.mode,  # pyright: ignore[reportArgumentType]
            model=view.model,
            base_version=row.base_version,
            published_version=row.published_version,
            status=row.status,  # pyright: ignore[reportArgumentType]
            method=str(row.parameters.get("method", "")),
            policy=row.policy_name,
            parameters=row.parameters,
            deletion_request_ids=list(view.deletion_request_ids),
            forget_records=row.forget_records,
            retain_records=row.retain_records,
            attempt=row.attempt,
            cancel_requested=row.cancel_requested_at is not None,
            progress=progress_of(row.status, row.progress),
            stop_reason=row.stop_reason,
            hardness=row.hardness,
            metrics=row.metrics,
            gates=row.gates,
            verdict=row.verdict,  # pyright: ignore[reportArgumentType]
            verdict_reasons=row.verdict_reasons,
            unmet_targets=row.unmet_targets,
            worker=row.worker,
            timings=row.timings,
            error=FailureOut(code=row.error["code"], message=row.error["message"]) if row.error else None,
            test=is_sandbox(row.workspace_id),
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


def progress_of(status: str, progress: Mapping[str, Any]) -> ProgressOut:
    """The progress block; a run that no worker holds has its status for a phase and nothing left to wait for."""
    held = status in ("preparing", "assessing", "unlearning", "evaluating", "publishing")
    return ProgressOut(
        phase=status,
        step=progress.get("step"),
        max_steps=progress.get("max_steps"),
        eta_seconds=progress.get("eta_seconds") if held else None,
    )


class StepsOut(WireOut):
    """Rows of the step ledger, one for each step. New columns may be added."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": [{"step": 1, "forget_loss": 0.02, "retain_loss": 0.01, "kappa": 0.3, "seconds": 0.05}],
                    "attempt": 1,
                }
            ]
        }
    )

    data: list[dict[str, Any]]
    attempt: int = Field(
        description="the attempt that these steps belong to; another one has a ledger of its own, complete from step 1"
    )


class RecordScoreOut(WireOut):
    """What was measured of one forget record before and after a run. New fields may be added."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "record_id": "r-17",
                    "loss_before": 0.002,
                    "loss_after": 1.9,
                    "correct_before": 1,
                    "correct_after": 0,
                    "target": 2.1,
                    "percentile": 0.46,
                }
            ]
        },
    )

    record_id: str
    loss_before: float | None = Field(None, description="nats")
    loss_after: float | None = Field(None, description="nats")
    correct_before: float | None = Field(None, description="right answers; of a language model, right tokens")
    correct_after: float | None = None
    target: float | None = Field(None, description="the loss in nats that the record was to reach")
    percentile: float | None = Field(None, description="share of the matched holdout with a lower loss, after the run")

    @classmethod
    def of(cls, score: RunScore) -> Self:
        """The row as the worker reported it."""
        return cls(**score.row)
