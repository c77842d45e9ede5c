"""Legal holds: what must not be erased for now, and why."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class LegalHold(Base):
    """In force until it is released; several may cover the same thing, one for each case."""

    __tablename__ = "legal_holds"
    __table_args__ = (
        CheckConstraint("scope in ('workspace', 'dataset', 'model')", name="scope"),
        CheckConstraint("(scope = 'workspace') = (object_id is null)", name="object"),
        Index("ix_legal_holds_in_force", "workspace_id", postgresql_where=text("released_at is null")),
        Index("ix_legal_holds_list", "workspace_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    scope: Mapped[str]
    object_id: Mapped[str | None]
    """The data set or model; null for a whole workspace."""
    name: Mapped[str | None]
    """What that is called."""
    reason: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    released_at: Mapped[datetime | None]
    released_by: Mapped[str | None]
    release_reason: Mapped[str | None]
