"""All SQL about certificates and signing keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, exists, or_, select
from sqlalchemy.orm import Session, aliased

from core.access.repository import lock
from core.certificates.errors import CertificateNotFound
from core.certificates.tables import Certificate, SigningKey
from core.deletions.tables import DeletionEvent
from core.platform.paging import Page, Slice, keyset, page_of
from core.registry.tables import Model
from core.runs.tables import Run


@dataclass(frozen=True, slots=True)
class CertificateFilter:
    """What a list of certificates is narrowed to. ``model``: name or id."""

    kind: str | None = None
    run: str | None = None
    model: str | None = None
    request: str | None = None


class Certificates:
    """Certificates and reports as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def add(self, certificate: Certificate) -> None:
        """Insert it. ``IntegrityError`` when the run has one already."""
        self._tx.add(certificate)
        self._tx.flush()

    def get_for(self, workspace_id: str, certificate_id: str) -> Certificate:
        """Raises ``CertificateNotFound``, also for another workspace's."""
        wanted = select(Certificate).where(Certificate.id == certificate_id, Certificate.workspace_id == workspace_id)
        found = self._tx.scalar(wanted)
        if found is None:
            raise CertificateNotFound(certificate_id)
        return found

    def page(self, workspace_id: str, wanted: CertificateFilter, page: Page) -> Slice[Certificate]:
        """One page of the workspace's certificates and reports, newest first."""
        query = keyset(_matching(workspace_id, wanted), page, Certificate.created_at, Certificate.id)
        return page_of(self._tx.scalars(query).all(), page, lambda row: (row.created_at, row.id))


class SigningKeys:
    """The service's signing keys."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def lock(self) -> None:
        """Let one transaction at a time change which key is in use. Released at the end of ``tx``."""
        lock(self._tx, "signing-keys")

    def in_use(self) -> SigningKey | None:
        """The key that signs; None before the first certificate."""
        return self._tx.scalar(select(SigningKey).where(SigningKey.retired_at.is_(None)))

    def all(self) -> Sequence[SigningKey]:
        """Every key there ever was, newest first."""
        return self._tx.scalars(select(SigningKey).order_by(SigningKey.created_at.desc(), SigningKey.kid)).all()

    def add(self, key: SigningKey) -> SigningKey:
        """Insert it."""
        self._tx.add(key)
        self._tx.flush()
        return key


def _matching(workspace_id: str, wanted: CertificateFilter) -> Select[Certificate]:
    statement = select(Certificate).where(Certificate.workspace_id == workspace_id)
    if wanted.kind is not None:
        statement = statement.where(Certificate.kind == wanted.kind)
    if wanted.run is not None:
        statement = statement.where(Certificate.run_id == wanted.run)
    if wanted.request is not None:
        took = DeletionEvent.detail["run_id"].as_string() == Certificate.run_id
        statement = statement.where(exists().where(DeletionEvent.request_id == wanted.request, took))
    if wanted.model is not None:
        run, model = aliased(Run), aliased(Model)
        named = or_(model.name == wanted.model, model.id == wanted.model)
        statement = statement.where(
            exists().where(run.id == Certificate.run_id, model.id == run.model_id, named),
        )
    return statement
