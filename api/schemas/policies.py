"""Policies on the wire. What is acceptable is decided in ``core.policies.body``; the types here document it."""

from typing import Any, Self

from pydantic import ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from api.schemas.common import Time, WireIn, WireOut
from core.policies.body import as_json
from core.policies.service import BUILT_IN, PolicyVersion
from core.unlearning.job import METHODS

_BODY = as_json(BUILT_IN.policy)


class PolicyIn(WireIn):
    """Settings of a policy; what is left out is the built-in default."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"parameters": {"quota_ratio": 0.5, "max_steps": 200}, "retention_days": 30}]}
    )

    parameters: dict[str, StrictInt | StrictFloat | StrictStr] = Field(
        default_factory=dict,
        description=f"dial settings of a run, named as in the answer; `method` is one of {', '.join(METHODS)}",
    )
    batch_window_s: float = Field(0, description="seconds a pending request waits for others to be unlearned with it")
    production_follows: bool = Field(default=False, description="whether publishing moves `production` too")
    needs_review_on: list[str] = Field(
        default=_BODY["needs_review_on"], description="stop reasons after which a person decides"
    )
    retention_days: int = Field(30, description="how long files of superseded versions are kept")


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
    batch_window_s: float
    production_follows: bool
    needs_review_on: list[str]
    retention_days: int
    created_at: Time | None

    @classmethod
    def of(cls, found: PolicyVersion) -> Self:
        """From the service's answer."""
        return cls(name=found.name, version=found.version, created_at=found.created_at, **as_json(found.policy))
