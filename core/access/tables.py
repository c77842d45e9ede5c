"""Workspaces, API keys, idempotency records and the audit log."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class Workspace(Base):
    """A tenant; owns every other object. What its test keys make is owned by its sandbox, a workspace of its own."""

    __tablename__ = "workspaces"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    test_of: Mapped[str | None] = mapped_column(ForeignKey("workspaces.id"), unique=True)
    """Of a sandbox: the workspace that it belongs to."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    """A credential. Only a digest of its secret is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("mode in ('live', 'test')", name="mode"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    name: Mapped[str]
    mode: Mapped[str]
    scopes: Mapped[list[str]]
    secret_digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the 32 random bytes' text; high entropy needs no slow hash."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class IdempotencyRecord(Base):
    """The answer once given to a creating call, for replay."""

    __tablename__ = "idempotency_records"

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    """HMAC of the request body, which may name people."""
    status: Mapped[int]
    headers: Mapped[dict[str, Any]]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class AuditEvent(Base):
    """One line of a workspace's append-only log, chained by hash to the line before it."""

    __tablename__ = "audit_events"
    __table_args__ = (
        UniqueConstraint("workspace_id", "sequence"),
        Index("ix_audit_events_object", "workspace_id", "object_id"),
        Index("ix_audit_events_list", "workspace_id", "at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    sequence: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str]
    """Key id, ``cli`` or ``system``."""
    action: Mapped[str]
    object_id: Mapped[str]
    details: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
