"""Deletion requests, the records and models they cover, and their timelines."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base

_STATES = "('pending', 'in_progress', 'needs_review', 'completed', 'failed', 'cancelled')"


class DeletionRequest(Base):
    """Somebody asked that records be unlearned. ``revision`` grows with every change (it is the ETag)."""

    __tablename__ = "deletion_requests"
    __table_args__ = (
        CheckConstraint(f"status in {_STATES}", name="status"),
        Index(
            "uq_deletion_requests_external_id",
            "workspace_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id is not null"),
        ),
        Index("ix_deletion_requests_list", "workspace_id", "created_at", "id"),
        Index("ix_deletion_requests_received", "workspace_id", "received_at", "id"),
        Index("ix_deletion_requests_sandbox", "id", postgresql_where=text("starts_with(workspace_id, 'wst_')")),
        Index(
            "ix_deletion_requests_open",
            "workspace_id",
            "due_at",
            postgresql_where=text("status in ('pending', 'in_progress', 'needs_review')"),
        ),
        Index(
            "ix_deletion_requests_warn",
            "warn_next_at",
            "id",
            postgresql_where=text("warn_next_at is not null and status in ('pending', 'in_progress', 'needs_review')"),
        ),
        Index(
            "ix_deletion_requests_unpurged",
            "id",
            postgresql_where=text("status = 'completed' and old_copies_purged_at is null"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    status: Mapped[str]
    status_detail: Mapped[str]
    reason: Mapped[str]
    external_id: Mapped[str | None]
    policy: Mapped[str | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    record_count: Mapped[int]
    already_erased: Mapped[int]
    revision: Mapped[int] = mapped_column(server_default="1")
    hold_until: Mapped[datetime | None]
    regulation: Mapped[str | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When the person's wish arrived, which may be before it came to us; the law's term runs from here."""
    due_at: Mapped[datetime | None]
    extended_at: Mapped[datetime | None]
    extension_reason: Mapped[str | None]
    warned_until: Mapped[datetime | None]
    """Warnings about the deadline up to this moment have been sent."""
    warn_next_at: Mapped[datetime | None]
    traceparent: Mapped[str | None]
    """The span in which it was accepted, so that the run that serves it can be linked to it; null: not traced."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    old_copies_purged_at: Mapped[datetime | None]
    """When the last superseded copy that still held the records was gone."""


class DeletionRecord(Base):
    """A record that a request covers."""

    __tablename__ = "deletion_records"
    __table_args__ = (Index("ix_deletion_records_record", "dataset_id", "record_id"),)

    request_id: Mapped[str] = mapped_column(ForeignKey("deletion_requests.id"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    record_id: Mapped[str] = mapped_column(primary_key=True)


class DeletionTarget(Base):
    """One model that a request wants the records unlearned from; the request is done when every target is."""

    __tablename__ = "deletion_targets"
    __table_args__ = (
        CheckConstraint(f"status in {_STATES}", name="status"),
        Index("ix_deletion_targets_pending", "model_id", "request_id", postgresql_where=text("status = 'pending'")),
        Index("ix_deletion_targets_run", "run_id", postgresql_where=text("run_id is not null")),
    )

    request_id: Mapped[str] = mapped_column(ForeignKey("deletion_requests.id"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    status: Mapped[str]
    run_id: Mapped[str | None]
    """The latest run that took this target."""
    waits_for: Mapped[str | None]
    """Why a pending target is not taken yet (``core.runs.batching``); null: nothing but its turn."""


class DeletionEvent(Base):
    """One entry of a request's timeline; one row per move, with a unique sequence."""

    __tablename__ = "deletion_events"

    request_id: Mapped[str] = mapped_column(ForeignKey("deletion_requests.id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    status: Mapped[str]
    actor: Mapped[str]
    detail: Mapped[dict[str, Any]]
    at: Mapped[datetime]
