"""Issuing a certificate or report for every run that has ended, and looking at them."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from core.access import audit
from core.certificates import keys, merkle, signing, verifying
from core.certificates.canonical import canonical
from core.certificates.claims import Decision, Facts, Weights, build
from core.certificates.errors import RecordNotCovered
from core.certificates.repository import CertificateFilter, Certificates
from core.certificates.tables import Certificate, SigningKey
from core.datasets.editions import Editions
from core.datasets.repository import Datasets
from core.deletions.repository import Requests
from core.deletions.tables import DeletionEvent
from core.platform import outbox
from core.platform.ids import new_id
from core.platform.paging import Page, Slice
from core.platform.resealing import Sealed
from core.platform.secrets import Keyring
from core.registry.repository import Models, Versions
from core.runs.repository import Runs
from core.runs.tables import Run

PURPOSE: Final = "certificate-salt"
_SALT_BYTES: Final = 32
SEALED: Final = (
    Sealed(Certificate, Certificate.sealed_salt, PURPOSE),
    Sealed(SigningKey, SigningKey.sealed_private, keys.PURPOSE),
)
"""What this slice keeps sealed."""


@dataclass(frozen=True, slots=True)
class CertificateView:
    """A certificate or report and what it claims."""

    certificate: Certificate
    claims: dict[str, Any]


def waiting(tx: Session, *, limit: int) -> Sequence[str]:
    """Runs that have ended and have neither certificate nor report, longest waiting first."""
    return Runs(tx).uncertified(limit=limit)


def issue(tx: Session, *, run_id: str, issuer: str, keyring: Keyring, at: datetime) -> Certificate | None:
    """Give an ended run its certificate or report and announce it; None when it has one by now.

    Of any number of issuers at once, one does it. What is signed has passed our own verifier. Raises ``RunNotFound``;
    ``verifying.Rejected`` when the run's own figures contradict each other, and ``ValueError`` when the signing key
    does not open under the service's secret: nothing is issued then.
    """
    run = Runs(tx).lock(run_id)
    if run.certified_at is not None:
        return None
    at = max(at, run.finished_at or at)  # the clocks of two machines may disagree
    certificate_id, salt = new_id("crt"), secrets.token_bytes(_SALT_BYTES)
    claims = build(_facts(tx, run), id=certificate_id, issuer=issuer, salt=salt, at=at)
    key = keys.in_use(tx, keyring, at=at)
    token = signing.sign(canonical(claims), key)
    verifying.verify(token, {"keys": [signing.public(key)]})
    certificate = Certificate(
        id=certificate_id,
        workspace_id=run.workspace_id,
        run_id=run.id,
        kind=claims["kind"],
        jws=token,
        kid=key.kid,
        sealed_salt=keyring.seal(PURPOSE, salt),
        created_at=at,
    )
    Certificates(tx).add(certificate)
    run.certified_at = at
    _announce(tx, run, certificate, claims, at)
    return certificate


def get(tx: Session, *, workspace_id: str, certificate_id: str) -> CertificateView:
    """Raises ``CertificateNotFound``."""
    return _view(Certificates(tx).get_for(workspace_id, certificate_id))


def ledger(tx: Session, view: CertificateView) -> Sequence[Mapping[str, Any]]:
    """The step ledger of the attempt that was certified."""
    return Runs(tx).all_steps(view.certificate.run_id, view.claims["run"]["attempt"])


def search(tx: Session, *, workspace_id: str, wanted: CertificateFilter, page: Page) -> Slice[CertificateView]:
    """One page of the workspace's certificates and reports, newest first."""
    found = Certificates(tx).page(workspace_id, wanted, page)
    return Slice(tuple(_view(row) for row in found.data), found.next_cursor, found.has_more)


def prove(tx: Session, *, workspace_id: str, certificate_id: str, record_id: str, keyring: Keyring) -> merkle.Proof:
    """That the certificate speaks of this record. Raises ``CertificateNotFound`` and ``RecordNotCovered``."""
    certificate = Certificates(tx).get_for(workspace_id, certificate_id)
    salt = keyring.open(PURPOSE, certificate.sealed_salt)
    try:
        return merkle.prove(salt, Runs(tx).records(certificate.run_id), record_id)
    except KeyError:
        raise RecordNotCovered("The certificate does not speak of this record.") from None


def _view(certificate: Certificate) -> CertificateView:
    return CertificateView(certificate, json.loads(signing.payload_of(certificate.jws)))


def _facts(tx: Session, run: Run) -> Facts:
    runs, versions, requests = Runs(tx), Versions(tx), Requests(tx)
    model = Models(tx).get(run.model_id)
    request_ids = tuple(runs.requests_of([run.id]).get(run.id, ()))
    published = run.published_version
    edition = int((run.selection or {}).get("edition", 1))

    def weights(number: int) -> Weights:
        version = versions.resolve(model.id, str(number))
        return Weights(version, versions.files(version.id))

    return Facts(
        run=run,
        model=model,
        dataset=Datasets(tx).get(model.dataset_id),
        fingerprint=Editions(tx).fingerprint(model.dataset_id, edition),
        base=weights(run.base_version),
        published=weights(published) if published is not None else None,
        requests=requests.received(request_ids),
        record_ids=runs.records(run.id),
        steps=runs.all_steps(run.id, run.attempt),
        decisions=[_decision(event) for event in requests.decisions(run.id, request_ids)],
    )


def _decision(event: DeletionEvent) -> Decision:
    comment = str(event.detail.get("comment", ""))
    return Decision(event.request_id, event.type == "approved", event.actor, comment, event.at)


def _announce(tx: Session, run: Run, certificate: Certificate, claims: dict[str, Any], at: datetime) -> None:
    is_certificate = certificate.kind == "certificate"
    if is_certificate and run.published_version is not None:
        Versions(tx).resolve(run.model_id, str(run.published_version)).certificate_id = certificate.id
    data = {
        "id": certificate.id,
        "run_id": run.id,
        "model": claims["model"]["name"],
        "published_version": run.published_version,
        "verdict": claims["verdict"],
        "deletion_request_ids": [request["id"] for request in claims["deletion_requests"]],
        "sequence": 1,  # issued once and never changed
    }
    kind = "certificate.issued" if is_certificate else "report.issued"
    outbox.put_event(tx, workspace_id=run.workspace_id, type=kind, data=data, at=at)
    audit.note(
        tx,
        workspace_id=run.workspace_id,
        actor="system",
        action=kind,
        object_id=certificate.id,
        details={"run_id": run.id, "kid": certificate.kid},
        at=at,
    )
