"""Use cases of OpenDSR: create, look at, cancel, try again. What follows from the work is in ``following``."""

import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from core.access import audit
from core.access.sandboxes import is_sandbox
from core.deletions import service as deletions
from core.deletions.commands import SubmitDeletion
from core.deletions.errors import NoVersion
from core.deletions.lifecycle import FINAL as NATIVE_FINAL
from core.deletions.lifecycle import Status as NativeStatus
from core.deletions.repository import Requests
from core.opendsr import following, terms
from core.opendsr.deliveries import Callbacks, Logged
from core.opendsr.errors import (
    CertificateNotFound,
    InvalidSubjectRequest,
    NothingToRetry,
    NotPending,
    SubjectRequestIdTaken,
)
from core.opendsr.lifecycle import Status, advance
from core.opendsr.parsing import CreateRequest
from core.opendsr.profile import Profile
from core.opendsr.progress import CANCELLED, HELD
from core.opendsr.repository import Certificates, SubjectRequests
from core.opendsr.signing import Signer
from core.opendsr.tables import OpenDsrRequest
from core.platform.errors import IllegalTransition, Problem
from core.platform.ids import new_id
from core.platform.resealing import Sealed
from core.platform.secrets import Keyring
from core.webhooks.messages import LOG_KEPT_FOR

PURPOSE: Final = "opendsr-request"
_BODY_KEY_BYTES: Final = 32
SEALED: Final = (Sealed(OpenDsrRequest, OpenDsrRequest.sealed_body_key, PURPOSE),)
"""What this slice keeps sealed."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A request that was taken; ``replayed``: it had been taken before."""

    row: OpenDsrRequest
    replayed: bool


@dataclass(frozen=True, slots=True)
class Look:
    """A request and the native deletion requests that do its work."""

    row: OpenDsrRequest
    native_ids: tuple[str, ...]


def create(
    tx: Session,
    *,
    workspace_id: str,
    actor: str,
    wanted: CreateRequest,
    legacy: bool,
    signer: Signer,
    profile: Profile,
    keyring: Keyring,
    at: datetime,
) -> Receipt:
    """Take a request: native deletion requests, audit line and first callback are in the same transaction.

    The same JSON value under the same id is the first receipt again and does nothing. Raises
    ``SubjectRequestIdTaken`` for another value, ``InvalidSubjectRequest`` for models that do not exist, and
    ``DatasetIndexing`` while records cannot be looked up completely, and ``TooManyOpenRequests``.
    """
    body_key = os.urandom(_BODY_KEY_BYTES)
    kept = {
        "body_digest": hmac.digest(body_key, _canonical(wanted.value), "sha256"),
        "sealed_body_key": keyring.seal(PURPOSE, body_key),
    }
    Certificates(tx).keep(signer.fingerprint, signer.pem, at)
    row = SubjectRequests(tx).add(**_values(workspace_id, wanted, legacy, signer, kept, profile, at))
    if row is None:
        before = SubjectRequests(tx).get_for(workspace_id, wanted.subject_request_id)
        if not _is_same(before, wanted.value, keyring):
            raise SubjectRequestIdTaken
        return Receipt(before, replayed=True)
    # So that the count holds; and the second of several requests locks records when the first has locked the audit log.
    Requests(tx).serialise(workspace_id)
    deletions.check_room(tx, workspace_id, profile.max_open)
    native_ids = _submit(tx, row, wanted, actor, keyring, profile, at)
    SubjectRequests(tx).add_work(row.id, native_ids)
    Callbacks(tx).add(row.id, wanted.callback_urls)
    following.tell(tx, row, profile, at)
    _note(tx, row, "created", {"regulation": row.regulation, "deletion_requests": len(native_ids)}, actor, at)
    return Receipt(row, replayed=False)


def get(tx: Session, *, workspace_id: str, subject_request_id: str) -> Look:
    """Raises ``SubjectRequestNotFound``."""
    row = SubjectRequests(tx).get_for(workspace_id, subject_request_id)
    return Look(row, tuple(native.id for native in SubjectRequests(tx).natives(row.id)))


def cancel(
    tx: Session, *, workspace_id: str, subject_request_id: str, actor: str, profile: Profile, at: datetime
) -> OpenDsrRequest | NotPending:
    """Withdraw a pending request with all its deletion requests; again is no error and changes nothing.

    Once work has begun or ended the answer is ``NotPending``. It is returned and not raised, because finding that out
    may have moved the request on, which must be committed. Raises ``SubjectRequestNotFound``.
    """
    row = SubjectRequests(tx).get_for(workspace_id, subject_request_id, lock=True)
    if row.status == Status.CANCELLED:
        return row
    if row.status != Status.PENDING:
        return NotPending(row.status)
    try:
        with tx.begin_nested():
            _withdraw(tx, row, actor, at)
    except IllegalTransition:  # a run has just taken one of them
        following.follow(tx, row, profile, at)
        return NotPending(row.status)
    row.status, row.state, row.cancelled_time = advance(Status.PENDING, Status.CANCELLED), CANCELLED, at
    following.tell(tx, row, profile, at)
    _note(tx, row, "cancelled", {}, actor, at)
    return row


def retry(
    tx: Session,
    *,
    workspace_id: str,
    subject_request_id: str,
    actor: str,
    profile: Profile,
    keyring: Keyring,
    at: datetime,
) -> Look:
    """Ask again for what has failed or been withdrawn: the same records, of the models that still hold them.

    Raises ``SubjectRequestNotFound``, ``NothingToRetry`` and what ``core.deletions.service.submit`` raises.
    """
    requests = SubjectRequests(tx)
    row = requests.get_for(workspace_id, subject_request_id, lock=True)
    ended = {NativeStatus.FAILED, NativeStatus.CANCELLED}
    lost = [native.id for native in requests.natives(row.id) if native.status in ended]
    if row.status != Status.IN_PROGRESS or not lost:
        raise NothingToRetry
    for native_id in lost:
        models, records = requests.unfinished(native_id)
        commands = [_command(row, model=model, record_ids=tuple(records)) for model in models or [None]]
        made = [_submit_one(tx, row, command, actor, keyring, profile, at) for command in commands]
        requests.add_work(row.id, made)
        requests.supersede(row.id, native_id)
    _note(tx, row, "retried", {"deletion_requests": len(lost)}, actor, at)
    following.follow(tx, row, profile, at)
    return get(tx, workspace_id=workspace_id, subject_request_id=subject_request_id)


def deliveries(tx: Session, *, workspace_id: str, subject_request_id: str) -> Sequence[Logged]:
    """What was sent about the request and what came of it. Raises ``SubjectRequestNotFound``."""
    return Callbacks(tx).logged(SubjectRequests(tx).get_for(workspace_id, subject_request_id).id)


def certificate(tx: Session, *, fingerprint: str) -> str:
    """The PEM of a certificate that has signed receipts. Raises ``CertificateNotFound``."""
    found = Certificates(tx).get(fingerprint)
    if found is None:
        raise CertificateNotFound
    return found.pem


def expire(tx: Session, *, at: datetime) -> int:
    """Remove old entries of the delivery log; says how many."""
    return Callbacks(tx).expire(at - LOG_KEPT_FOR)


def _is_same(row: OpenDsrRequest, value: Any, keyring: Keyring) -> bool:
    """Whether the request that was taken was this JSON value."""
    if row.sealed_body_key is None:
        return keyring.vouches(PURPOSE, _canonical(value), row.body_digest)
    body_key = keyring.open(PURPOSE, row.sealed_body_key)
    return hmac.compare_digest(row.body_digest, hmac.digest(body_key, _canonical(value), "sha256"))


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def _values(
    workspace_id: str,
    wanted: CreateRequest,
    legacy: bool,
    signer: Signer,
    kept: Mapping[str, bytes],
    profile: Profile,
    at: datetime,
) -> dict[str, Any]:
    term = terms.legal_term(wanted.regulation, wanted.submitted_time, profile.regulations)
    return {
        "id": new_id("dsr"),
        "workspace_id": workspace_id,
        "subject_request_id": wanted.subject_request_id,
        "regulation": wanted.regulation,
        "legacy": legacy,
        **kept,
        "status": Status.PENDING,
        "state": HELD,
        "native_revision": 0,
        "submitted_time": wanted.submitted_time,
        "received_time": at,
        "expected_completion_time": terms.expected_completion(
            received=at, service_level=profile.service_level, term=term
        ),
        "hold_until": at + profile.hold(wanted.hold_s, sandbox=is_sandbox(workspace_id)),
        "certificate_fingerprint": signer.fingerprint,
    }


def _submit(
    tx: Session,
    row: OpenDsrRequest,
    wanted: CreateRequest,
    actor: str,
    keyring: Keyring,
    profile: Profile,
    at: datetime,
) -> list[str]:
    """One deletion request for every model, or one for each of the models that were named."""
    models: list[str | None] = [None]
    if wanted.model_ids:
        found = SubjectRequests(tx).model_names(row.workspace_id, wanted.model_ids)
        _refuse_unknown(found, profile)
        models = list(dict.fromkeys(found))
    commands = [
        _command(row, model=model, record_ids=wanted.record_ids, identities=wanted.identities) for model in models
    ]
    return [_submit_one(tx, row, command, actor, keyring, profile, at) for command in commands]


def _refuse_unknown(found: Sequence[str | None], profile: Profile) -> None:
    problems = [
        Problem(f'extensions["{profile.domain}"].model_ids[{place}]', "unknown_model", "names no model")
        for place, name in enumerate(found)
        if name is None
    ]
    if problems:
        raise InvalidSubjectRequest("The request is not acceptable.", problems)


def _command(row: OpenDsrRequest, *, model: str | None, **selection: Any) -> SubmitDeletion:
    return SubmitDeletion(
        model=model,
        reason=row.regulation,
        due_at=row.expected_completion_time,
        hold_seconds=(row.hold_until - row.received_time).total_seconds() if row.status == Status.PENDING else 0,
        metadata={"opendsr_subject_request_id": row.subject_request_id},
        ignore_unknown=True,
        **selection,
    )


def _submit_one(
    tx: Session,
    row: OpenDsrRequest,
    command: SubmitDeletion,
    actor: str,
    keyring: Keyring,
    profile: Profile,
    at: datetime,
) -> str:
    try:
        made = deletions.submit(
            tx,
            workspace_id=row.workspace_id,
            actor=actor,
            command=command,
            keyring=keyring,
            max_ids=profile.max_ids,
            at=at,
        )
    except NoVersion:
        field = f'extensions["{profile.domain}"].model_ids'
        problem = Problem(field, "no_version", "names a model that has no version to unlearn from")
        raise InvalidSubjectRequest("The request is not acceptable.", [problem]) from None
    return made.request.id


def _withdraw(tx: Session, row: OpenDsrRequest, actor: str, at: datetime) -> None:
    for native in SubjectRequests(tx).natives(row.id):
        if native.status not in NATIVE_FINAL:
            deletions.cancel(tx, workspace_id=row.workspace_id, request_id=native.id, actor=actor, at=at)


def _note(tx: Session, row: OpenDsrRequest, what: str, details: dict[str, Any], actor: str, at: datetime) -> None:
    audit.note(
        tx,
        workspace_id=row.workspace_id,
        actor=actor,
        action=f"opendsr_request.{what}",
        object_id=row.id,
        details={"subject_request_id": row.subject_request_id, **details},
        at=at,
    )
