"""Deletion requests on the wire."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic.config import JsonDict

from api.errors import ProblemOut
from api.schemas.common import Time, TimeIn, WireIn, WireOut
from core.access.sandboxes import is_sandbox
from core.deletions.commands import Identity, RequestView, SubmitDeletion
from core.deletions.tables import DeletionEvent, DeletionRequest

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_METADATA_BYTES = 4096
_LONGEST_HOLD_S = 30 * 24 * 3600
_REQUEST = "del_01k9d3v6m2q8r4t6w8y0a2c4e6"
_RUN = "run_01k9d3v6m2q8r4t6w8y0a2c4e6"

Status = Literal["pending", "in_progress", "needs_review", "completed", "failed", "cancelled"]
Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]

_ASKED: JsonDict = {
    "model": "digits-classifier",
    "record_ids": ["r-17", "r-99"],
    "subject_ids": ["writer-03"],
    "reason": "gdpr_art_17",
    "external_id": "PRIV-1042",
}
_ANSWER: JsonDict = {
    "id": _REQUEST,
    "status": "in_progress",
    "status_detail": "running",
    "models": ["digits-classifier"],
    "record_count": 12,
    "already_erased": 0,
    "reason": "gdpr_art_17",
    "external_id": "PRIV-1042",
    "policy": None,
    "metadata": {},
    "run_ids": [_RUN],
    "certificate_ids": [],
    "hold_until": None,
    "regulation": "gdpr",
    "received_at": "2031-02-28T09:00:00.000Z",
    "confirmed_at": "2031-03-01T11:12:40.120Z",
    "due_at": "2031-03-28T09:00:00.000Z",
    "extension": None,
    "created_at": "2031-03-01T11:12:40.120Z",
    "updated_at": "2031-03-01T11:12:41.020Z",
    "started_at": "2031-03-01T11:12:41.020Z",
    "finished_at": None,
    "completed_at": None,
    "old_copies_purged_at": None,
    "error": None,
    "test": False,
    "status_url": f"https://unlearn.example/v1/deletion-requests/{_REQUEST}",
}


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata).encode()) > _METADATA_BYTES:
        raise ValueError(f"metadata may have at most {_METADATA_BYTES} bytes as JSON")
    return metadata


class IdentityIn(WireIn):
    """Something that identifies a person. The value is looked up by a keyed digest and not kept."""

    type: Short = Field(examples=["email"])
    value: Id = Field(examples=["a@b.example"], repr=False)
    format: Literal["raw", "sha256"] = Field(
        "raw",
        description="`sha256`: the value is the hex SHA-256 of the normalised one: Unicode NFC, no surrounding space, "
        "e-mail addresses in lower case; of type `controller_customer_id` exactly as it is",
    )

    @model_validator(mode="after")
    def _is_hash(self) -> Self:
        if self.format == "sha256" and not _SHA256.fullmatch(self.value):
            raise ValueError("the value of format sha256 must be 64 hexadecimal digits")
        return self

    def to_identity(self) -> Identity:
        """What the service is told."""
        return Identity(self.type, self.value, hashed=self.format == "sha256")


class DeletionRequestIn(WireIn):
    """What is to be unlearned: name records, subjects or identities, in any combination."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ASKED]})

    model: Short | None = Field(None, description="unset: every model that was trained on the records")
    dataset: Short | None = Field(None, description="unset: the model's; without a model, every data set is searched")
    record_ids: list[Id] = Field(default_factory=list[Id])
    subject_ids: list[Id] = Field(default_factory=list[Id])
    identities: list[IdentityIn] = Field(default_factory=list[IdentityIn])
    reason: Short = "unspecified"
    external_id: Short | None = Field(None, description="your own id of this request; unique in the workspace")
    regulation: Short | None = Field(
        None,
        description="`gdpr`, `ccpa` or one of the policy's; unset: what `reason` begins with, as in `gdpr_art_17`",
        examples=["gdpr"],
    )
    received_at: TimeIn | None = Field(None, description="when the person's wish arrived at yours; unset: now")
    due_at: TimeIn | None = Field(None, description="by when it must be done; unset: as the regulation says")
    hold_seconds: float = Field(0, ge=0, le=_LONGEST_HOLD_S, description="wait this long before any work begins")
    policy: Short | None = Field(None, description="unset: the model's")
    metadata: Annotated[dict[str, Any], AfterValidator(_small)] = Field(
        {}, description="kept as it is; no personal data"
    )

    def to_command(self) -> SubmitDeletion:
        """What the service is told."""
        return SubmitDeletion(
            model=self.model,
            dataset=self.dataset,
            record_ids=tuple(self.record_ids),
            subject_ids=tuple(self.subject_ids),
            identities=tuple(one.to_identity() for one in self.identities),
            reason=self.reason,
            external_id=self.external_id,
            regulation=self.regulation,
            received_at=self.received_at,
            due_at=self.due_at,
            hold_seconds=self.hold_seconds,
            policy=self.policy,
            metadata=self.metadata,
        )


class FailureOut(WireOut):
    """Why it failed, in words to act on."""

    code: str
    message: str


class ExtensionOut(WireOut):
    """The one extension of a deadline."""

    at: Time
    reason: str

    @classmethod
    def of(cls, row: DeletionRequest) -> Self | None:
        """None when there is none."""
        return cls(at=row.extended_at, reason=row.extension_reason or "") if row.extended_at else None


class DeletionRequestOut(WireOut):
    """A deletion request. `status` has few values and keeps them; `status_detail` says more and may grow."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    id: str
    status: Status
    status_detail: str = Field(
        description="held, queued, waiting_for_batch (others may join it), waiting_for_subjects (too few people for a"
        " version of their own), running, waiting_for_review, done, failed, cancelled",
        examples=["running"],
    )
    models: list[str]
    record_count: int = Field(description="records that this request erases")
    already_erased: int = Field(description="records named that had been erased before")
    reason: str
    external_id: str | None
    policy: str | None
    metadata: dict[str, Any]
    run_ids: list[str] = Field(description="oldest first")
    certificate_ids: list[str]
    hold_until: Time | None
    regulation: str | None
    received_at: Time = Field(description="when the person's wish arrived; terms of law run from here")
    confirmed_at: Time = Field(description="when this service accepted it")
    due_at: Time | None
    extension: ExtensionOut | None
    created_at: Time
    updated_at: Time
    started_at: Time | None
    finished_at: Time | None = Field(description="when it ended, in whatever way")
    completed_at: Time | None = Field(description="when every model had forgotten")
    old_copies_purged_at: Time | None = Field(description="when the last old copy that held the records was gone")
    error: FailureOut | None
    test: bool = Field(description="made with a test key: no model has forgotten anything")
    status_url: str

    @classmethod
    def of(cls, view: RequestView, *, base_url: str, at: datetime) -> Self:
        """The request as it is at ``at``."""
        row = view.request
        return cls(
            id=row.id,
            status=row.status,  # pyright: ignore[reportArgumentType]
            status_detail=detail_of(view, at),
            models=list(view.models),
            record_count=row.record_count,
            already_erased=row.already_erased,
            reason=row.reason,
            external_id=row.external_id,
            policy=row.policy,
            metadata=row.metadata_,
            run_ids=list(view.run_ids),
            certificate_ids=list(view.certificate_ids),
            hold_until=row.hold_until,
            regulation=row.regulation,
            received_at=row.received_at,
            confirmed_at=row.created_at,
            due_at=row.due_at,
            extension=ExtensionOut.of(row),
            created_at=row.created_at,
            updated_at=row.updated_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            completed_at=row.finished_at if row.status == "completed" else None,
            old_copies_purged_at=row.old_copies_purged_at,
            error=_failure(view.error),
            test=is_sandbox(row.workspace_id),
            status_url=f"{base_url}/v1/deletion-requests/{row.id}",
        )


def detail_of(view: RequestView, at: datetime) -> str:
    """The detail as it is at ``at``: a hold ends by itself, without anybody writing it down."""
    request = view.request
    over = request.hold_until is not None and request.hold_until <= at
    detail = "queued" if over and request.status_detail == "held" else request.status_detail
    return view.waits_for or detail if detail == "queued" else detail


def _failure(error: Mapping[str, Any] | None) -> FailureOut | None:
    if error is None:
        return None
    return FailureOut(code=str(error.get("code", "failed")), message=str(error.get("message", "The request failed.")))


class DeletionEventOut(WireOut):
    """One thing that happened to a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sequence": 2,
                    "type": "started",
                    "status": "in_progress",
                    "actor": "system",
                    "detail": {"run_id": _RUN},
                    "at": "2031-03-01T11:12:41.020Z",
                }
            ]
        }
    )

    sequence: int
    type: str
    status: Status
    actor: str = Field(description="a key's id, or `system`")
    detail: dict[str, Any]
    at: Time

    @classmethod
    def of(cls, event: DeletionEvent) -> Self:
        """One line of the timeline."""
        return cls.model_validate(event)


class TimelineOut(WireOut):
    """Everything that happened to a request, in order."""

    data: list[DeletionEventOut]


class DecisionIn(WireIn):
    """A person's decision."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"comment": "Retain loss is acceptable."}]})

    comment: Annotated[str, StringConstraints(max_length=2000)] = ""


class ExtensionIn(WireIn):
    """Why the deadline is extended."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "Three models must be unlearned one by one."}]}
    )

    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)] = Field(
        description="kept in timeline and audit log; no personal data"
    )


class BatchIn(WireIn):
    """Up to 1,000 requests. Each is judged by itself, so an item's own mistakes are in its result."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [_ASKED]}]})

    requests: Annotated[
        list[Any],
        Field(min_length=1, max_length=1000),
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": 1000,
                "items": {"$ref": "#/components/schemas/DeletionRequestIn"},
            }
        ),
    ]


class BatchResultOut(WireOut):
    """What became of one item: a request (`status` 202) or a problem."""

    status: int
    request: DeletionRequestOut | None = None
    problem: ProblemOut | None = None


class BatchOut(WireOut):
    """One result for each item, in order."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"results": [{"status": 202, "request": _ANSWER, "problem": None}]}]}
    )

    results: list[BatchResultOut]
