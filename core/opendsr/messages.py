"""The JSON that controllers are sent. Each body is serialised once; those bytes are signed, kept and sent."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.access.sandboxes import is_sandbox
from core.opendsr.identities import PAIRS
from core.opendsr.parsing import REQUEST_TYPES
from core.opendsr.profile import Profile
from core.opendsr.tables import OpenDsrRequest
from core.platform.clock import rfc3339

API_VERSION: Final = "2.0"
BASE: Final = "/opendsr/v2"
EXTENSION_KEYS: Final = ("record_ids", "model_ids", "hold_seconds")


@dataclass(frozen=True, slots=True)
class Event:
    """One change of state. ``id`` is the same for all addresses and all attempts."""

    id: str
    at: datetime


def encode(message: Mapping[str, Any]) -> bytes:
    """Compact JSON in ASCII, which no receiver's decoding and encoding changes."""
    return json.dumps(message, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def discovery(profile: Profile) -> dict[str, Any]:
    """What we can do."""
    return {
        "api_version": API_VERSION,
        "supported_identities": [{"identity_type": kind, "identity_format": form} for kind, form in PAIRS],
        "supported_subject_request_types": list(REQUEST_TYPES),
        "processor_certificate": f"{profile.public_url}{BASE}/certificate.pem",
        "supported_extensions": {profile.domain: list(EXTENSION_KEYS)},
    }


def receipt(row: OpenDsrRequest, body: bytes) -> dict[str, Any]:
    """Answer to a create request. ``body``: the bytes that came, which must not be kept or logged."""
    return {
        "controller_id": row.workspace_id,
        "subject_request_id": row.subject_request_id,
        "received_time": rfc3339(row.received_time),
        "expected_completion_time": rfc3339(row.expected_completion_time),
        "encoded_request": base64.b64encode(body).decode("ascii"),
        "api_version": API_VERSION,
    }


def cancellation(row: OpenDsrRequest) -> dict[str, Any]:
    """Answer to a cancellation; the request must be cancelled."""
    assert row.cancelled_time is not None  # noqa: S101
    return {
        "controller_id": row.workspace_id,
        "subject_request_id": row.subject_request_id,
        "received_time": rfc3339(row.cancelled_time),
        "api_version": API_VERSION,
    }


def status(row: OpenDsrRequest, native_ids: Sequence[str], profile: Profile) -> dict[str, Any]:
    """Answer to a status call."""
    return {
        "controller_id": row.workspace_id,
        "subject_request_id": row.subject_request_id,
        **_progress(row),
        "extensions": {profile.domain: _finer(row, native_ids, profile)},
    }


def callback(
    row: OpenDsrRequest, url: str, event: Event, native_ids: Sequence[str], profile: Profile
) -> dict[str, Any]:
    """What ``url`` is told about the state that the request has just come to."""
    finer = _finer(row, native_ids, profile)
    return {
        "controller_id": row.workspace_id,
        "subject_request_id": row.subject_request_id,
        "status_callback_url": url,
        **_progress(row),
        "extensions": {profile.domain: {"event_id": event.id, "event_time": rfc3339(event.at), **finer}},
    }


def _progress(row: OpenDsrRequest) -> dict[str, Any]:
    return {
        "request_status": row.status,
        "expected_completion_time": rfc3339(row.expected_completion_time),
        "results_url": None,
        "results_count": row.results_count,
        "api_version": API_VERSION,
    }


def _finer(row: OpenDsrRequest, native_ids: Sequence[str], profile: Profile) -> dict[str, Any]:
    evidence = f"{profile.public_url}/v1/deletion-requests/{native_ids[0]}" if row.status == "completed" else None
    return {
        **({"test": True} if is_sandbox(row.workspace_id) else {}),
        "request_id": native_ids[0],
        "request_ids": list(native_ids),
        "state": row.state,
        "reason": row.reason,
        "evidence_url": evidence,
    }
