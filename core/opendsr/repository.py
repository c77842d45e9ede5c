"""All SQL on data subject requests, their deletion requests and their certificates. Callbacks: ``deliveries.py``."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.deletions.lifecycle import Status as NativeStatus
from core.deletions.repository import Requests
from core.deletions.tables import DeletionRecord, DeletionRequest, DeletionTarget
from core.opendsr.errors import SubjectRequestNotFound
from core.opendsr.lifecycle import Status
from core.opendsr.progress import Native
from core.opendsr.tables import OpenDsrCertificate, OpenDsrRequest, OpenDsrWork
from core.registry.tables import Model


class SubjectRequests:
    """Data subject requests as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def add(self, **values: Any) -> OpenDsrRequest | None:
        """Insert a request; None when the workspace has one of this ``subject_request_id``.

        Waits for another transaction that is inserting the same one, so exactly one of them gets it.
        """
        statement = insert(OpenDsrRequest).values(**values)
        unique = [OpenDsrRequest.workspace_id, OpenDsrRequest.subject_request_id]
        statement = statement.on_conflict_do_nothing(index_elements=unique)
        return self._tx.scalar(statement.returning(OpenDsrRequest))

    def get_for(self, workspace_id: str, subject_request_id: str, *, lock: bool = False) -> OpenDsrRequest:
        """Raises ``SubjectRequestNotFound``, also for another workspace's."""
        row = OpenDsrRequest
        query = select(row).where(row.workspace_id == workspace_id, row.subject_request_id == subject_request_id)
        query = query.with_for_update() if lock else query
        found = self._tx.scalar(query.execution_options(populate_existing=True))
        if found is None:
            raise SubjectRequestNotFound
        return found

    def next_changed(self, at: datetime) -> OpenDsrRequest | None:
        """Lock a request whose hold is over, or whose deletion requests have changed since they were looked at."""
        row = OpenDsrRequest
        revisions = (
            select(func.coalesce(func.sum(DeletionRequest.revision), 0))
            .join(OpenDsrWork, OpenDsrWork.deletion_request_id == DeletionRequest.id)
            .where(OpenDsrWork.opendsr_id == row.id, ~OpenDsrWork.superseded)
            .scalar_subquery()
        )
        over = and_(row.status == Status.PENDING, row.hold_until <= at)
        moved = and_(row.status == Status.IN_PROGRESS, row.native_revision != revisions)
        query = select(row).where(or_(over, moved)).order_by(row.hold_until).limit(1)
        return self._tx.scalar(query.with_for_update(skip_locked=True).execution_options(populate_existing=True))

    def add_work(self, opendsr_id: str, deletion_request_ids: Sequence[str]) -> None:
        """The request led to these deletion requests as well."""
        count = select(func.count()).select_from(OpenDsrWork).where(OpenDsrWork.opendsr_id == opendsr_id)
        first = self._tx.scalar(count) or 0
        self._tx.add_all(
            OpenDsrWork(opendsr_id=opendsr_id, deletion_request_id=native_id, ordinal=first + place, superseded=False)
            for place, native_id in enumerate(deletion_request_ids)
        )
        self._tx.flush()

    def supersede(self, opendsr_id: str, deletion_request_id: str) -> None:
        """Another deletion request stands in for this one."""
        change = update(OpenDsrWork).where(
            OpenDsrWork.opendsr_id == opendsr_id, OpenDsrWork.deletion_request_id == deletion_request_id
        )
        self._tx.execute(change.values(superseded=True))

    def natives(self, opendsr_id: str) -> Sequence[Native]:
        """The deletion requests that count, in the order in which they were made, as they are now."""
        rows = self._tx.execute(
            select(DeletionRequest.id, DeletionRequest.status, DeletionRequest.status_detail)
            .join(OpenDsrWork, OpenDsrWork.deletion_request_id == DeletionRequest.id)
            .where(OpenDsrWork.opendsr_id == opendsr_id, ~OpenDsrWork.superseded)
            .order_by(OpenDsrWork.ordinal)
        ).all()
        errors = Requests(self._tx).errors_of([row.id for row in rows if row.status == NativeStatus.FAILED])
        codes = {native_id: str(detail.get("code", "failed")) for native_id, detail in errors.items()}
        return [Native(row.id, NativeStatus(row.status), row.status_detail, codes.get(row.id)) for row in rows]

    def next_told(self, opendsr_id: str) -> int:
        """The number of the next event that webhooks hear of the request."""
        row = OpenDsrRequest
        change = update(row).where(row.id == opendsr_id).values(told=row.told + 1).returning(row.told)
        return self._tx.execute(change.execution_options(synchronize_session=False)).scalar_one()

    def native_revision(self, opendsr_id: str) -> int:
        """Sum of the revisions of the deletion requests that count; it changes with every change of one."""
        query = (
            select(func.coalesce(func.sum(DeletionRequest.revision), 0))
            .join(OpenDsrWork, OpenDsrWork.deletion_request_id == DeletionRequest.id)
            .where(OpenDsrWork.opendsr_id == opendsr_id, ~OpenDsrWork.superseded)
        )
        return int(self._tx.scalar(query) or 0)

    def records_covered(self, opendsr_id: str) -> int:
        """How many different records its deletion requests cover."""
        pairs = (
            select(DeletionRecord.dataset_id, DeletionRecord.record_id)
            .join(OpenDsrWork, OpenDsrWork.deletion_request_id == DeletionRecord.request_id)
            .where(OpenDsrWork.opendsr_id == opendsr_id)
            .distinct()
            .subquery()
        )
        return self._tx.scalar(select(func.count()).select_from(pairs)) or 0

    def unfinished(self, deletion_request_id: str) -> tuple[Sequence[str], Sequence[str]]:
        """Names of the models on which a deletion request was not completed, and the records that it covers."""
        models = (
            select(Model.name)
            .join(DeletionTarget, DeletionTarget.model_id == Model.id)
            .where(DeletionTarget.request_id == deletion_request_id, DeletionTarget.status != NativeStatus.COMPLETED)
            .order_by(Model.name)
        )
        records = select(DeletionRecord.record_id).where(DeletionRecord.request_id == deletion_request_id).distinct()
        return self._tx.scalars(models).all(), self._tx.scalars(records.order_by(DeletionRecord.record_id)).all()

    def model_names(self, workspace_id: str, references: Sequence[str]) -> Sequence[str | None]:
        """The workspace's models by name or id, in order; None for one that it does not have."""
        rows = self._tx.execute(
            select(Model.id, Model.name).where(
                Model.workspace_id == workspace_id, or_(Model.name.in_(references), Model.id.in_(references))
            )
        ).all()
        known = {row.id: row.name for row in rows} | {row.name: row.name for row in rows}
        return [known.get(reference) for reference in references]


class Certificates:
    """Certificates that have signed receipts."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def keep(self, fingerprint: str, pem: str, at: datetime) -> None:
        """Note that it signs; the first time counts."""
        if self._tx.get(OpenDsrCertificate, fingerprint) is None:
            values = {"fingerprint": fingerprint, "pem": pem, "first_used_at": at}
            self._tx.execute(insert(OpenDsrCertificate).values(**values).on_conflict_do_nothing())

    def get(self, fingerprint: str) -> OpenDsrCertificate | None:
        """The certificate of this fingerprint."""
        return self._tx.get(OpenDsrCertificate, fingerprint)
