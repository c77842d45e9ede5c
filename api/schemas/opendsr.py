"""OpenDSR 2.0 on the wire, for the OpenAPI document. The bodies themselves are written in ``core.opendsr.messages``.

Answers are described and not made by these classes: what is signed is serialised once, elsewhere.
"""

from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field

from api.schemas.common import Time, WireOut
from core.opendsr.deliveries import Logged
from core.opendsr.service import Look

_ID: Final = "0d1f5a52-6a0e-4b39-9b0a-3c1c4f1f7f10"
_CONTROLLER: Final = "ws_01k9d3v6m2q8r4t6w8y0a2c4e6"
_DOMAIN: Final = "opendsr.unlearn.example"
_FINER: Final[dict[str, Any]] = {
    "request_id": "del_01k9d3v6m2q8r4t6w8y0a2c4e6",
    "request_ids": ["del_01k9d3v6m2q8r4t6w8y0a2c4e6"],
    "state": "running",
    "reason": None,
    "evidence_url": None,
}
_PROGRESS: Final[dict[str, Any]] = {
    "request_status": "in_progress",
    "expected_completion_time": "2031-03-04T10:00:02.000Z",
    "results_url": None,
    "results_count": None,
    "api_version": "2.0",
}
CREATE_EXAMPLE: Final[dict[str, Any]] = {
    "regulation": "gdpr",
    "subject_request_id": _ID,
    "subject_request_type": "erasure",
    "submitted_time": "2031-03-01T09:30:00Z",
    "api_version": "2.0",
    "subject_identities": [{"identity_type": "email", "identity_value": "ana@example.org", "identity_format": "raw"}],
    "status_callback_urls": ["https://privacy.example.org/cb?src=unlearn"],
    "extensions": {_DOMAIN: {"hold_seconds": 600}},
}
_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
CREATE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["regulation", "subject_request_id", "subject_request_type", "submitted_time"],
    "properties": {
        "regulation": {**_TEXT, "description": "`gdpr`, `ccpa`, or a law that the operator has added"},
        "subject_request_id": {**_TEXT, "format": "uuid", "description": "version 4, lower case; made by you"},
        "subject_request_type": {"const": "erasure"},
        "submitted_time": {**_TEXT, "format": "date-time", "description": "when the data subject asked"},
        "api_version": {**_TEXT, "description": "2 or 2.x"},
        "subject_identities": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "description": "may be left out when the extension names `record_ids`",
            "items": {
                "type": "object",
                "required": ["identity_type", "identity_value", "identity_format"],
                "properties": {
                    "identity_type": {"enum": ["email", "controller_customer_id"]},
                    "identity_value": {**_TEXT, "minLength": 1},
                    "identity_format": {"enum": ["raw", "sha256"]},
                },
            },
        },
        "status_callback_urls": {**_TEXTS, "maxItems": 10},
        "extensions": {"type": "object", "description": "by processor domain; others than ours are passed over"},
    },
}
CALLBACK_EXAMPLE: Final[dict[str, Any]] = {
    "controller_id": _CONTROLLER,
    "subject_request_id": _ID,
    "status_callback_url": "https://privacy.example.org/cb?src=unlearn",
    **_PROGRESS,
    "extensions": {
        _DOMAIN: {"event_id": "evt_01k9d3v6m2q8r4t6w8y0a2c4e6", "event_time": "2031-03-01T11:12:40.000Z", **_FINER}
    },
}


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [fields]})


class DiscoveryOut(WireOut):
    """What this processor can do."""

    model_config = _example(
        api_version="2.0",
        supported_identities=[{"identity_type": "email", "identity_format": "raw"}],
        supported_subject_request_types=["erasure"],
        processor_certificate=f"https://{_DOMAIN}/opendsr/v2/certificate.pem",
        supported_extensions={_DOMAIN: ["record_ids", "model_ids", "hold_seconds"]},
    )

    api_version: str
    supported_identities: list[dict[str, str]]
    supported_subject_request_types: list[str]
    processor_certificate: str
    supported_extensions: dict[str, list[str]]


class ReceiptOut(WireOut):
    """A request that was taken."""

    model_config = _example(
        controller_id=_CONTROLLER,
        subject_request_id=_ID,
        received_time="2031-03-01T10:00:02.000Z",
        expected_completion_time="2031-03-04T10:00:02.000Z",
        encoded_request="eyJyZWd1…",
        api_version="2.0",
    )

    controller_id: str
    subject_request_id: str
    received_time: str
    expected_completion_time: str
    encoded_request: str = Field(description="base64 of your request's bytes; holds the identities, so do not log it")
    api_version: str


class StatusOut(WireOut):
    """How far a request has got."""

    model_config = _example(
        controller_id=_CONTROLLER, subject_request_id=_ID, **_PROGRESS, extensions={_DOMAIN: _FINER}
    )

    controller_id: str
    subject_request_id: str
    request_status: Literal["pending", "in_progress", "completed", "cancelled"]
    expected_completion_time: str
    results_url: None
    results_count: int | None = Field(description="records found and unlearned; null until completed")
    api_version: str
    extensions: dict[str, Any]


class CancellationOut(WireOut):
    """A request that was cancelled."""

    model_config = _example(
        controller_id=_CONTROLLER,
        subject_request_id=_ID,
        received_time="2031-03-01T10:02:00.000Z",
        api_version="2.0",
    )

    controller_id: str
    subject_request_id: str
    received_time: str
    api_version: str


class OpenDsrErrorOut(WireOut):
    """A failure, in the standard's envelope."""

    model_config = _example(
        error={
            "code": 400,
            "message": "The request is not acceptable.",
            "errors": [
                {
                    "domain": "Validation",
                    "reason": "InvalidValue",
                    "message": "subject_request_id must be a UUID of version 4 in lower case",
                }
            ],
        }
    )

    error: dict[str, Any]


class CallbackAttemptOut(WireOut):
    """One try to deliver an event."""

    at: Time
    status_code: int | None = Field(description="null when no answer came")
    latency_ms: int
    error: str | None = Field(description="`timeout`, `tls`, `protocol` or `unreachable`")
    response: str | None = Field(description="the answer's first kilobyte")


class CallbackEventOut(WireOut):
    """One change of state as one address was told it."""

    event_id: str
    url: str
    request_status: str
    status: Literal["pending", "delivered", "exhausted", "discarded"]
    created_at: Time
    delivered_at: Time | None
    next_attempt_at: Time | None
    attempts: list[CallbackAttemptOut]

    @classmethod
    def of(cls, logged: Logged) -> Self:
        """From the log."""
        event = logged.event
        return cls.model_validate(
            {
                "event_id": event.event_id,
                "url": logged.url,
                "request_status": event.request_status,
                "status": event.status,
                "created_at": event.created_at,
                "delivered_at": event.delivered_at,
                "next_attempt_at": event.next_attempt_at,
                "attempts": [CallbackAttemptOut.model_validate(one) for one in logged.attempts],
            }
        )


class CallbackLogOut(WireOut):
    """The delivery log of one request's callbacks, oldest first; kept for 30 days."""

    model_config = _example(
        data=[
            {
                "event_id": "evt_01k9d3v6m2q8r4t6w8y0a2c4e6",
                "url": "https://privacy.example.org/cb?src=unlearn",
                "request_status": "completed",
                "status": "delivered",
                "created_at": "2031-03-01T11:12:40.000Z",
                "delivered_at": "2031-03-01T11:12:41.000Z",
                "next_attempt_at": None,
                "attempts": [
                    {
                        "at": "2031-03-01T11:12:41.000Z",
                        "status_code": 202,
                        "latency_ms": 84,
                        "error": None,
                        "response": None,
                    }
                ],
            }
        ]
    )

    data: list[CallbackEventOut]


class SubjectRequestOut(WireOut):
    """An OpenDSR request as the operator sees it."""

    model_config = _example(
        id="dsr_01k9d3v6m2q8r4t6w8y0a2c4e6",
        subject_request_id=_ID,
        regulation="gdpr",
        status="in_progress",
        state="queued",
        reason=None,
        deletion_request_ids=["del_01k9d3v6m2q8r4t6w8y0a2c4e6"],
        submitted_time="2031-03-01T09:30:00.000Z",
        received_time="2031-03-01T10:00:02.000Z",
        expected_completion_time="2031-03-04T10:00:02.000Z",
        certificate_fingerprint="9f2c…",
    )

    id: str
    subject_request_id: str
    regulation: str
    status: str
    state: str
    reason: str | None
    deletion_request_ids: list[str]
    submitted_time: Time
    received_time: Time
    expected_completion_time: Time
    certificate_fingerprint: str = Field(description="of the certificate that signed the receipt")

    @classmethod
    def of(cls, look: Look) -> Self:
        """From the service."""
        row = look.row
        shown = {name: getattr(row, name) for name in cls.model_fields if name != "deletion_request_ids"}
        return cls.model_validate({**shown, "deletion_request_ids": list(look.native_ids)})
