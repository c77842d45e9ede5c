"""Certificates and reports, and the keys that sign them."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class Certificate(Base):
    """Signed evidence of one run. What it claims is the content of ``jws`` and stands nowhere else."""

    __tablename__ = "certificates"
    __table_args__ = (
        UniqueConstraint("run_id"),
        CheckConstraint("kind in ('certificate', 'report')", name="kind"),
        Index("ix_certificates_list", "workspace_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    kind: Mapped[str]
    jws: Mapped[str]
    kid: Mapped[str] = mapped_column(ForeignKey("signing_keys.kid"))
    sealed_salt: Mapped[bytes] = mapped_column(LargeBinary)
    """Of the record ids' digests; encrypted under the service's secret."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SigningKey(Base):
    """A key of the service. One is in use; retired ones only verify."""

    __tablename__ = "signing_keys"
    __table_args__ = (
        Index("uq_signing_keys_one_in_use", text("(true)"), unique=True, postgresql_where=text("retired_at is null")),
    )

    kid: Mapped[str] = mapped_column(primary_key=True)
    public: Mapped[dict[str, Any]]
    """As a JWK."""
    sealed_private: Mapped[bytes] = mapped_column(LargeBinary)
    """The private JWK, encrypted under the service's secret; empty once it is retired."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
