"""Runs, their step ledger and their events."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base

_OPEN = "('queued', 'preparing', 'assessing', 'unlearning', 'evaluating', 'publishing', 'needs_review')"
_ACTIVE = "('queued', 'preparing', 'assessing', 'unlearning', 'evaluating', 'publishing')"


class Run(Base):
    """One execution of unlearning, or of its first part alone (``mode`` ``assess``, with an id ``hrd_…``).

    ``attempt`` counts claims; the lease token fences every write of a worker.
    """

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(
            "status in ('queued', 'preparing', 'assessing', 'unlearning', 'evaluating', 'publishing',"
            " 'succeeded', 'needs_review', 'failed', 'cancelled')",
            name="status",
        ),
        CheckConstraint("mode in ('unlearn', 'assess')", name="mode"),
        CheckConstraint(
            "verdict in ('passed', 'passed_with_warnings', 'failed', 'inconclusive')",
            name="verdict",
        ),
        Index(
            "uq_runs_one_active_per_live_model",
            "model_id",
            unique=True,
            postgresql_where=text(
                f"mode = 'unlearn' and status in {_ACTIVE} and not starts_with(workspace_id, 'wst_')"
            ),
        ),
        Index("ix_runs_queued", "due_at", "id", postgresql_where=text("status = 'queued'")),
        Index("ix_runs_leased", "lease_until", postgresql_where=text("lease_until is not null")),
        Index("ix_runs_open", "mode", "status", postgresql_where=text(f"status in {_OPEN}")),
        Index("ix_runs_list", "workspace_id", "created_at", "id"),
        Index(
            "ix_runs_uncertified",
            "finished_at",
            postgresql_where=text("mode = 'unlearn' and status in ('succeeded', 'failed') and certified_at is null"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    mode: Mapped[str] = mapped_column(server_default="unlearn")
    status: Mapped[str]
    base_version: Mapped[int]
    published_version: Mapped[int | None]
    policy_name: Mapped[str]
    policy: Mapped[dict[str, Any]]
    """The whole policy as it was when the run was planned."""
    parameters: Mapped[dict[str, Any]]
    forget_records: Mapped[int]
    retain_records: Mapped[int]
    selection: Mapped[dict[str, Any] | None]
    """When the records of the latest attempt were chosen (``at``), and a digest of each set; null before that."""
    progress: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    stop_reason: Mapped[str | None]
    hardness: Mapped[dict[str, Any] | None]
    metrics: Mapped[dict[str, Any] | None]
    gates: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    verdict: Mapped[str | None]
    """None while nothing has been judged, and for runs of before there were verdicts."""
    verdict_reasons: Mapped[list[str]] = mapped_column(server_default=text("'[]'::jsonb"))
    unmet_targets: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    """Targets of the policy that the run did not reach, each with ``name``, ``value``, ``limit``, ``reason``."""
    staged: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    """Files uploaded for the new version while they wait for a decision."""
    worker: Mapped[dict[str, Any] | None]
    timings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    error: Mapped[dict[str, Any] | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    lease_owner: Mapped[str | None]
    lease_token: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    checkpoint_key: Mapped[bytes | None]
    """Seals the run's checkpoints; itself sealed with the service's secret, and gone when the run has ended."""
    cancel_requested_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(server_default="1")
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Queued runs are claimed in this order: the first deadline of their requests; an assessment's own creation."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    certified_at: Mapped[datetime | None]
    """When its certificate or report was issued."""


class RunRecord(Base):
    """A record that a hardness assessment is about, or that the latest attempt of a run was to forget."""

    __tablename__ = "run_records"
    __table_args__ = (Index("ix_run_records_record", "record_id"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    record_id: Mapped[str] = mapped_column(primary_key=True)


class RunScore(Base):
    """What was measured of one forget record before and after a run, as the child reported it."""

    __tablename__ = "run_scores"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    record_id: Mapped[str] = mapped_column(primary_key=True)
    row: Mapped[dict[str, Any]]


class RunStep(Base):
    """One row of the step ledger, as the child reported it."""

    __tablename__ = "run_steps"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    row: Mapped[dict[str, Any]]


class RunEvent(Base):
    """One entry of a run's timeline: every move, and progress worth streaming."""

    __tablename__ = "run_events"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    status: Mapped[str]
    detail: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
