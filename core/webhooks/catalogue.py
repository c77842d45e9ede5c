"""Every type of event there is, with the shape of its ``data``."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.platform.errors import InvalidInput, Problem

API_VERSION: Final = "v1"

_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_SHARE: Final = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
_NUMBER_OR_NULL: Final = {"type": ["integer", "null"]}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_TRUNCATED: Final = {
    "type": "object",
    "description": "only there when something was left out: lists that were cut, with their whole length",
    "additionalProperties": _NUMBER_OR_NULL,
}


@dataclass(frozen=True, slots=True)
class EventType:
    """One type. ``required`` fields are always in ``data``; more may be added."""

    type: str
    summary: str
    description: str
    required: Mapping[str, Any]
    optional: Mapping[str, Any]
    example: Mapping[str, Any]

    def data_schema(self) -> dict[str, Any]:
        """JSON Schema of ``data``."""
        properties = {**self.required, **self.optional, "truncated": _TRUNCATED}
        return {"type": "object", "properties": properties, "required": sorted(self.required)}

    def message_schema(self) -> dict[str, Any]:
        """JSON Schema of the whole message."""
        properties = {
            "id": {**_TEXT, "description": "same as webhook-id"},
            "type": {"const": self.type},
            "timestamp": {**_TIME, "description": "when it happened"},
            "api_version": {"const": API_VERSION},
            "test": {"type": "boolean", "description": "true when it was sent on request, or happened in test mode"},
            "data": self.data_schema(),
        }
        return {"type": "object", "properties": properties, "required": sorted(properties)}

    def message_example(self) -> dict[str, Any]:
        """A whole message as an example."""
        return {
            "id": "msg_01k9d3v6m2q8r4t6w8y0a2c4e6",
            "type": self.type,
            "timestamp": "2031-03-01T11:12:40.120Z",
            "api_version": API_VERSION,
            "test": False,
            "data": dict(self.example),
        }


_REQUEST: Final = "del_01k9d3v6m2q8r4t6w8y0a2c4e6"
_RUN: Final = "run_01k9d3v6m2q8r4t6w8y0a2c4e6"
_CERTIFICATE: Final = "crt_01k9d3v6m2q8r4t6w8y0a2c4e6"
_ASSESSMENT: Final = "hrd_01k9d3v6m2q8r4t6w8y0a2c4e6"


def _of_request(name: str, happened: str, status: str) -> EventType:
    return EventType(
        f"deletion_request.{name}",
        f"A deletion request {happened}",
        "Fetch the request by its id for everything else. Late events have a lower `sequence`.",
        {"id": _TEXT, "status": _TEXT, "sequence": _COUNT},
        {
            "external_id": _TEXT_OR_NULL,
            "status_detail": _TEXT,
            "record_count": _COUNT,
            "old_copies_purged_at": _TIME,
            "models": _TEXTS,
            "run_ids": _TEXTS,
            "url": _TEXT,
        },
        {"id": _REQUEST, "status": status, "external_id": "PRIV-1042", "record_count": 12, "sequence": 3},
    )


def _of_deadline(name: str, happened: str, example: Mapping[str, Any], **required: Any) -> EventType:
    kind = _of_request(name, happened, "in_progress")
    return dataclasses.replace(
        kind,
        required={**kind.required, "due_at": _TIME, **required},
        example={**kind.example, "due_at": "2031-04-01T11:12:40.120Z", **example},
    )


def _of_run(name: str, happened: str, status: str) -> EventType:
    return EventType(
        f"run.{name}",
        f"A run {happened}",
        "Fetch the run by its id for hardness, metrics and the step ledger.",
        {"id": _TEXT, "model": _TEXT, "status": _TEXT, "sequence": _COUNT},
        {
            "base_version": _COUNT,
            "published_version": _NUMBER_OR_NULL,
            "stop_reason": _TEXT_OR_NULL,
            "verdict": _TEXT_OR_NULL,
            "unmet_targets": _TEXTS,
            "forget_records": _COUNT,
            "attempt": _COUNT,
            "deletion_request_ids": _TEXTS,
            "url": _TEXT,
        },
        {"id": _RUN, "model": "digits-classifier", "status": status, "base_version": 1, "sequence": 5},
    )


def _of_assessment(name: str, happened: str, status: str) -> EventType:
    verdict = "hard" if status == "succeeded" else None
    return EventType(
        f"hardness_assessment.{name}",
        f"A hardness assessment {happened}",
        "Fetch the assessment by its id for hardness, forecast and advice.",
        {"id": _TEXT, "model": _TEXT, "status": _TEXT, "sequence": _COUNT},
        {"base_version": _COUNT, "verdict": _TEXT_OR_NULL, "record_count": _COUNT, "url": _TEXT},
        {"id": _ASSESSMENT, "model": "digits-classifier", "status": status, "verdict": verdict, "sequence": 5},
    )


def _of_version(name: str, happened: str, state: str) -> EventType:
    return EventType(
        f"model_version.{name}",
        f"A model version {happened}",
        "Fetch the version for its files and digests.",
        {"id": _TEXT, "model": _TEXT, "version": _COUNT, "sequence": _COUNT},
        {"parent_version": _NUMBER_OR_NULL, "run_id": _TEXT_OR_NULL, "state": _TEXT, "url": _TEXT},
        {
            "id": "mv_01k9d3v6m2q8r4t6w8y0a2c4e6",
            "model": "digits-classifier",
            "version": 2,
            "state": state,
            "sequence": 2 if state == "active" else 3,
        },
    )


def _of_evidence(kind: str, description: str, verdict: str) -> EventType:
    return EventType(
        f"{kind}.issued",
        f"A {kind} was issued",
        description,
        {"id": _TEXT, "run_id": _TEXT, "model": _TEXT, "sequence": _COUNT},
        {
            "published_version": _NUMBER_OR_NULL,
            "verdict": _TEXT_OR_NULL,
            "deletion_request_ids": _TEXTS,
            "url": _TEXT,
        },
        {
            "id": _CERTIFICATE,
            "run_id": _RUN,
            "model": "digits-classifier",
            "published_version": 2,
            "verdict": verdict,
            "sequence": 1,
        },
    )


def _of_subject_request(name: str, happened: str, more: Mapping[str, Any], example: Mapping[str, Any]) -> EventType:
    return EventType(
        f"opendsr_request.{name}",
        f"An OpenDSR request {happened}",
        "For the operators of this service; the controller hears of its requests by its own callbacks.",
        {"id": _TEXT, "subject_request_id": _TEXT, "status": _TEXT, "sequence": _COUNT},
        more,
        {
            "id": "dsr_01k9d3v6m2q8r4t6w8y0a2c4e6",
            "subject_request_id": "0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10",
            "status": "in_progress",
            "sequence": 5,
            **example,
        },
    )


def _of_purge(name: str, happened: str, description: str, state: str = "purged", **more: Any) -> EventType:
    kind = _of_version(name, happened, state)
    shapes = {
        "blocked_by": _TEXTS,
        "files": _COUNT,
        "uri": _TEXT,
        "alias": _TEXT,
        "version_before": _NUMBER_OR_NULL,
        "holds_unlearned_in": {"type": "array", "items": _COUNT},
    }
    return dataclasses.replace(
        kind,
        description=description,
        required={**kind.required, **{name: shapes[name] for name in more}},
        example={**kind.example, "version": 1, **more},
    )


def _of_dataset(name: str, happened: str, description: str, more: Mapping[str, Any], **example: Any) -> EventType:
    return EventType(
        f"dataset.{name}",
        f"A data set's {happened}",
        description,
        {"id": _TEXT, "name": _TEXT, "edition": _COUNT, "files": _COUNT, "sequence": _COUNT, **more},
        {},
        {"id": "ds_01k9d3v6m2q8r4t6w8y0a2c4e6", "name": "digits", "edition": 2, "files": 1, "sequence": 2, **example},
    )


def _of_hold(name: str, happened: str) -> EventType:
    return EventType(
        f"legal_hold.{name}",
        f"A legal hold was {happened}",
        "Fetch it by its id for the reason.",
        {"id": _TEXT, "scope": _TEXT, "sequence": _COUNT},
        {"name": _TEXT_OR_NULL},
        {"id": "hold_01k9d3v6m2q8r4t6w8y0a2c4e6", "scope": "dataset", "name": "digits", "sequence": 1},
    )


_DIGEST: Final = "6a0f8c3a1f6b3f0b63f7d2c1f0c8f0a36b3e3a4d6d1b2c3d4e5f60718293a4b5"
_ERASURE: Final = (
    dataclasses.replace(
        _of_request("old_copies_purged", "has no old copies left that hold its records", "completed"),
        description="Neither versions nor files of data sets in reach of this service hold its records any more.",
    ),
    _of_purge("purged", "was put out of use for good", "It held what was unlearned since. Its files are deleted next."),
    _of_purge("files_deleted", "has no files any more", "`files` were deleted, or were found to be gone.", files=3),
    _of_purge(
        "purge_blocked",
        "should be purged and cannot be",
        "`blocked_by` says why: `alias:` and its name, `run`, `legal_hold`. Move the alias, and it is purged.",
        "retired",
        blocked_by=["alias:production"],
    ),
    _of_purge(
        "original_retained",
        "was purged, and its files lie where only their owner can delete them",
        "Delete them; the service looks now and then whether they are gone.",
        files=3,
        uri="s3://training/acme/digits-classifier/",
    ),
    _of_purge(
        "forced_back",
        "that holds unlearned data is in use again",
        "Somebody forced an alias to it. No deletion request is opened again by that.",
        "retired",
        alias="production",
        version_before=2,
        holds_unlearned_in=[2],
    ),
    _of_dataset(
        "files_rewritten",
        "files were written anew without erased records",
        "`fingerprint_before` is that of the files before; those are kept for a while.",
        {"records_removed": _COUNT, "fingerprint": _TEXT, "fingerprint_before": _TEXT},
        records_removed=12,
        fingerprint=_DIGEST,
        fingerprint_before=_DIGEST[::-1],
    ),
    _of_dataset(
        "original_retained",
        "original files lie where only their owner can delete them",
        "Delete them; the service looks now and then whether they are gone. At most 100 are named.",
        {"uris": _TEXTS},
        uris=["s3://training/acme/digits/train.parquet"],
    ),
    _of_dataset("files_purged", "superseded files were deleted, or were found to be gone", "Of all editions.", {}),
    EventType(
        "run.files_purged",
        "What a run had left behind was deleted",
        "`kind`: `checkpoints`, or `weights` of an attempt that nobody published.",
        {"id": _TEXT, "model": _TEXT, "kind": _TEXT, "objects": _COUNT, "sequence": _COUNT},
        {},
        {"id": _RUN, "model": "digits-classifier", "kind": "checkpoints", "objects": 4, "sequence": 6},
    ),
    _of_hold("placed", "placed"),
    _of_hold("released", "released"),
)


CATALOGUE: Final = (
    _of_request("created", "was accepted", "pending"),
    _of_request("started", "is being worked on", "in_progress"),
    _of_request("needs_attention", "waits for a person's decision", "needs_review"),
    _of_request("completed", "is done: every model has forgotten", "completed"),
    _of_request("cancelled", "was cancelled", "cancelled"),
    _of_request("failed", "failed", "failed"),
    _of_deadline("deadline_approaching", "has used up a share of its term", {"share": 0.8}, share=_SHARE),
    _of_deadline("overdue", "is still open although its deadline is over", {}),
    _of_deadline(
        "extended", "has a later deadline", {"due_at_before": "2031-02-01T11:12:40.120Z"}, due_at_before=_TIME
    ),
    _of_run("started", "has begun", "preparing"),
    _of_run("needs_review", "waits for a person's decision", "needs_review"),
    _of_run("succeeded", "succeeded", "succeeded"),
    _of_run("failed", "failed", "failed"),
    _of_run("cancelled", "was cancelled", "cancelled"),
    _of_assessment("completed", "is done", "succeeded"),
    _of_assessment("failed", "failed", "failed"),
    _of_assessment("cancelled", "was cancelled", "cancelled"),
    _of_version("published", "was published", "active"),
    _of_version("retired", "was superseded", "retired"),
    *_ERASURE,
    _of_evidence(
        "certificate", "Fetch it by its id: signed evidence of a run that published after a good verdict.", "passed"
    ),
    _of_evidence(
        "report", "Fetch it as a certificate: signed evidence of a run, which certifies no success.", "inconclusive"
    ),
    _of_subject_request(
        "needs_attention",
        "cannot be finished without a person",
        {"reason": _TEXT_OR_NULL},
        {"reason": "waiting_for_review"},
    ),
    _of_subject_request(
        "callback_failed",
        "has a callback that could not be delivered: tell the controller by another way",
        {"event_id": _TEXT, "outcome": _TEXT},
        {"event_id": "evt_01k9d3v6m2q8r4t6w8y0a2c4e6", "outcome": "exhausted"},
    ),
    EventType(
        "webhook_endpoint.disabled",
        "Another webhook endpoint was disabled",
        "It answered 410 (`gone`), or did nothing but fail for five days (`failing`). Messages that waited for it were "
        "discarded; enable it again with PATCH, and have them sent by a replay.",
        {"id": _TEXT, "reason": {"enum": ["gone", "failing"]}, "sequence": _COUNT},
        {},
        {"id": "whe_01k9d3v6m2q8r4t6w8y0a2c4e6", "reason": "gone", "sequence": 4},
    ),
    EventType("ping", "A test", "Sent on request only.", {}, {}, {}),
)
_BY_TYPE: Final = {event.type: event for event in CATALOGUE}


def event_type(name: str) -> EventType | None:
    """The type of that name."""
    return _BY_TYPE.get(name)


def check_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """``patterns`` without duplicates, in order. Raises ``InvalidInput`` for one that can match no event."""
    given = list(patterns)
    problems = [
        Problem(f"/events/{index}", "unknown_event", "No event is of this type; prefixes look like run.*")
        for index, pattern in enumerate(given)
        if not any(matches([pattern], event.type) for event in CATALOGUE)
    ]
    if problems:
        raise InvalidInput("Some events do not exist.", problems)
    return tuple(dict.fromkeys(given))


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether an endpoint with these patterns wants events of this type; no patterns: all."""
    wanted = list(patterns)
    return not wanted or any(_one(pattern, name) for pattern in wanted)


def _one(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    return name.startswith(pattern[:-1]) if pattern.endswith(".*") else pattern == name
