"""All SQL about legal holds. What is in force is also to be had as a condition for other queries."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import Session

from core.access.repository import lock, lock_shared
from core.holds.errors import HoldNotFound
from core.holds.tables import LegalHold
from core.platform.paging import Page, Slice, keyset, page_of
from core.registry.tables import Model

LEGAL_HOLD = "legal_hold"
"""What waits for a hold says so by this word."""


class Holds:
    """Legal holds as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def serialise(self, workspace_id: str) -> None:
        """Let one transaction at a time of the workspace place a hold, or decide to erase something.

        It is the lock of ``Requests.serialise``: whoever has it and has found no hold may go on, since none can be
        placed meanwhile.
        """
        lock(self._tx, "erasure", workspace_id)

    def serialise_among_others(self, workspace_id: str) -> None:
        """Keep out whoever calls ``serialise``, but not the others who call this."""
        lock_shared(self._tx, "erasure", workspace_id)

    def add(self, hold: LegalHold) -> LegalHold:
        """Insert it."""
        self._tx.add(hold)
        self._tx.flush()
        return hold

    def get_for(self, workspace_id: str, hold_id: str, *, lock: bool = False) -> LegalHold:
        """Raises ``HoldNotFound``, also for another workspace's."""
        statement = select(LegalHold).where(LegalHold.id == hold_id, LegalHold.workspace_id == workspace_id)
        if lock:
            statement = statement.with_for_update().execution_options(populate_existing=True)
        found = self._tx.scalar(statement)
        if found is None:
            raise HoldNotFound("There is no such legal hold.")
        return found

    def page(self, workspace_id: str, page: Page, *, in_force: bool | None) -> Slice[LegalHold]:
        """The workspace's holds, newest first; ``in_force``: only those that are, or only those that are not."""
        query = select(LegalHold).where(LegalHold.workspace_id == workspace_id)
        if in_force is not None:
            query = query.where(LegalHold.released_at.is_(None) if in_force else LegalHold.released_at.is_not(None))
        rows = self._tx.scalars(keyset(query, page, LegalHold.created_at, LegalHold.id)).all()
        return page_of(rows, page, lambda row: (row.created_at, row.id))

    def in_force(self, workspace_id: str) -> Sequence[LegalHold]:
        """Every hold in force, oldest first."""
        statement = select(LegalHold).where(LegalHold.workspace_id == workspace_id, LegalHold.released_at.is_(None))
        return self._tx.scalars(statement.order_by(LegalHold.created_at, LegalHold.id)).all()

    def on_dataset(self, workspace_id: str, dataset_id: str) -> bool:
        """Whether a hold covers the data set."""
        return bool(self._tx.scalar(select(dataset_held(workspace_id, dataset_id))))

    def on_models(self, model_ids: Collection[str]) -> frozenset[str]:
        """Those of the models that a hold covers."""
        return frozenset(self._tx.scalars(select(Model.id).where(Model.id.in_(list(model_ids)), model_held())))


def dataset_held(workspace_id: Any, dataset_id: Any) -> ColumnElement[bool]:
    """Whether a hold covers the data set: its own, or the workspace's."""
    return exists().where(
        LegalHold.released_at.is_(None),
        LegalHold.workspace_id == workspace_id,
        or_(LegalHold.scope == "workspace", and_(LegalHold.scope == "dataset", LegalHold.object_id == dataset_id)),
    )


def model_held() -> ColumnElement[bool]:
    """Whether a hold covers ``Model``, which the query must have: its own, its data set's, or the workspace's."""
    return exists().where(
        LegalHold.released_at.is_(None),
        LegalHold.workspace_id == Model.workspace_id,
        or_(
            LegalHold.scope == "workspace",
            and_(LegalHold.scope == "dataset", LegalHold.object_id == Model.dataset_id),
            and_(LegalHold.scope == "model", LegalHold.object_id == Model.id),
        ),
    )
