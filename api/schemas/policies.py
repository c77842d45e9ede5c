"""Policies on the wire. What is acceptable is decided in ``core.policies.body``; the types here document it."""

from typing import Any, Self

from pydantic import ConfigDict, Field, StrictFloat, StrictInt, StrictStr
from pydantic.config import JsonDict

from api.schemas.common import Time, WireIn, WireOut
from core.evaluation.limits import GATES, SEVERITIES
from core.evaluation.verdict import VERDICTS
from core.policies.body import as_json
from core.policies.service import BUILT_IN, PolicyVersion
from core.unlearning.job import METHODS

_BODY = as_json(BUILT_IN.policy)
_EXAMPLE: JsonDict = {
    "parameters": {"quota_ratio": 0.5, "max_steps": 200},
    "targets": {"membership_auc": 0.05, "retain_accuracy_drop": 0.005},
    "limits": {"membership_auc_loss": {"at_most": 0.6}, "int4_recovery": {"severity": "off"}},
    "publish_on": ["passed"],
    "review_on": ["passed_with_warnings", "inconclusive", "failed"],
    "retention_days": 30,
}
_VERDICTS = "; of " + ", ".join(VERDICTS) + " each must be in exactly one of publish_on, review_on and fail_on"


class LimitIn(WireIn):
    """What is changed of one gate; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"at_most": 0.6, "severity": "advisory"}]})

    at_least: StrictFloat | StrictInt | None = Field(None, description="lower edge of the margin; null: open")
    at_most: StrictFloat | StrictInt | None = Field(None, description="upper edge of the margin; null: open")
    severity: StrictStr = Field("important", description=f"one of {', '.join(SEVERITIES)}")


class PolicyIn(WireIn):
    """Settings of a policy; what is left out is the built-in default."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    parameters: dict[str, StrictInt | StrictFloat | StrictStr] = Field(
        default_factory=dict,
        description=f"dial settings of a run, named as in the answer; `method` is one of {', '.join(METHODS)}",
    )
    targets: dict[str, StrictInt | StrictFloat] = Field(
        default_factory=dict,
        description="results at which a run stops: `membership_auc` (how far from 0.5), `forget_loss_ratio` (at least "
        "this share of the holdout's loss), `retain_accuracy_drop` and `holdout_accuracy_drop` (at most)",
    )
    batch_window_s: float = Field(0, description="seconds a pending request waits for others to be unlearned with it")
    batch_size: int = Field(0, description="the window ends as soon as so many people wait; 0: by time alone")
    min_subjects: int = Field(
        1, description="no new version forgets fewer people than this, unless a deadline forces it"
    )
    force_before_due_s: float = Field(
        _BODY["force_before_due_s"], description="so many seconds before it is due a request waits for nobody any more"
    )
    escalate_at: list[float] = Field(
        default=_BODY["escalate_at"], description="shares of the term at which an approaching deadline is announced"
    )
    regulations: dict[str, dict[str, int]] = Field(
        default={},
        description="terms of law beside `gdpr` and `ccpa`: `days` from receipt and `extension_days`",
        examples=[{"lgpd": {"days": 15, "extension_days": 0}}],
    )
    production_follows: bool = Field(default=False, description="whether publishing moves `production` too")
    needs_review_on: list[str] = Field(
        default=_BODY["needs_review_on"],
        description="stop reasons after which a person decides, whatever the verdict",
    )
    limits: dict[str, LimitIn] = Field(
        default_factory=dict, description=f"changed margins and severities of gates, which are {', '.join(GATES)}"
    )
    publish_on: list[str] = Field(
        default=_BODY["publish_on"], description=f"verdicts that publish by themselves, never `failed`{_VERDICTS}"
    )
    review_on: list[str] = Field(default=_BODY["review_on"], description="verdicts after which a person decides")
    fail_on: list[str] = Field(default=_BODY["fail_on"], description="verdicts that end the run as failed")
    retention_days: int = Field(
        30, description="how long files of superseded versions are kept that hold what was unlearned since"
    )
    recheck_days: int = Field(
        30, description="how long records that a run forgot may be read, to see that later runs leave them forgotten"
    )
    originals_days: int = Field(
        0,
        description="how long a data set's files from before its erased records were taken out are kept at least; "
        "while `recheck_days` lasts they are kept anyway",
    )


class PolicyOut(WireOut):
    """The current version of a policy."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "strict", "version": 3, **_BODY, "created_at": "2031-03-01T11:12:40.120Z"}]
        }
    )

    name: str
    version: int = Field(description="counts up with every change; 0: built in")
    parameters: dict[str, Any]
    targets: dict[str, float] = Field(description="results at which a run stops; each is a parameter as well")
    batch_window_s: float
    batch_size: int
    min_subjects: int
    force_before_due_s: float
    escalate_at: list[float]
    regulations: dict[str, dict[str, int]]
    production_follows: bool
    needs_review_on: list[str]
    limits: dict[str, dict[str, float | str | None]] = Field(description="what the policy changes of the gates")
    publish_on: list[str]
    review_on: list[str]
    fail_on: list[str]
    retention_days: int
    recheck_days: int
    originals_days: int
    created_at: Time | None

    @classmethod
    def of(cls, found: PolicyVersion) -> Self:
        """From the service's answer."""
        return cls(name=found.name, version=found.version, created_at=found.created_at, **as_json(found.policy))
