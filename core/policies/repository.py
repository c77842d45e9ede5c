"""All SQL about policies."""

from typing import Final

from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy.orm import Session

from core.access.repository import lock
from core.platform.database import Columns, table_of
from core.platform.paging import Page, Slice, keyset, page_of
from core.policies.tables import PolicyRow


class Policies:
    """Policy versions; the highest of a name is the current one."""

    def __init__(self, tx: Session) -> None:
        """Queries run in ``tx``."""
        self._tx = tx

    def lock(self, workspace_id: str, name: str) -> None:
        """Wait for other writers of this name, until the end of the transaction."""
        lock(self._tx, "policy", workspace_id, name)

    def current(self, workspace_id: str, name: str) -> Columns | None:
        """The columns of the current version of a name; None when there is none."""
        return self._tx.execute(_CURRENT, {"workspace_id": workspace_id, "name": name}).one_or_none()

    def add(self, row: PolicyRow) -> PolicyRow:
        """Insert it."""
        self._tx.add(row)
        self._tx.flush()
        return row

    def page(self, workspace_id: str, page: Page) -> Slice[PolicyRow]:
        """The current version of every name, latest change first."""
        newest = (
            select(PolicyRow.name, func.max(PolicyRow.version))
            .where(PolicyRow.workspace_id == workspace_id)
            .group_by(PolicyRow.name)
        )
        query = select(PolicyRow).where(
            PolicyRow.workspace_id == workspace_id, tuple_(PolicyRow.name, PolicyRow.version).in_(newest)
        )
        rows = self._tx.scalars(keyset(query, page, PolicyRow.created_at, PolicyRow.id)).all()
        return page_of(rows, page, lambda row: (row.created_at, row.id))


_ROWS: Final = table_of(PolicyRow)
_CURRENT: Final = (
    select(_ROWS)
    .where(_ROWS.c.workspace_id == bindparam("workspace_id"), _ROWS.c.name == bindparam("name"))
    .order_by(_ROWS.c.version.desc())
    .limit(1)
)
