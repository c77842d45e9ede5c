"""Webhook endpoints and their keys, messages, what became of each delivery, and replays."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class WebhookEndpoint(Base):
    """Where a workspace wants to hear of events. Secrets and static headers are sealed at rest."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (CheckConstraint("algorithm in ('hmac-sha256', 'ed25519')", name="algorithm"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    url: Mapped[str]
    events: Mapped[list[str]]
    """Event types or prefixes such as ``deletion_request.*``; empty: all."""
    description: Mapped[str | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'::jsonb"))
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    algorithm: Mapped[str] = mapped_column(server_default="hmac-sha256")
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    """No longer written: old keys are in ``webhook_old_keys``. To be dropped by a later release, as is the next one."""
    previous_secret_until: Mapped[datetime | None]
    sealed_headers: Mapped[bytes | None] = mapped_column(LargeBinary)
    """JSON object of the static headers, which may hold the receiver's credentials."""
    header_names: Mapped[list[str]] = mapped_column(server_default=text("'[]'::jsonb"))
    healthy: Mapped[bool] = mapped_column(server_default=text("false"))
    """Its last attempt was a success: such endpoints may take more of the senders."""
    failing_since: Mapped[datetime | None]
    """The first of the failures since the last success, unless a failure of ours has come between."""
    paused_until: Mapped[datetime | None]
    """It asked for a pause: nothing is sent before."""
    revision: Mapped[int] = mapped_column(server_default="1")
    """Grows by one with each change: the ``sequence`` of its events."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class WebhookOldKey(Base):
    """A key that was rotated out and signs beside the present one for a while."""

    __tablename__ = "webhook_old_keys"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"), index=True)
    algorithm: Mapped[str]
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    signs_until: Mapped[datetime]


class WebhookMessage(Base):
    """One event as it is sent: the body's bytes are fixed here and signed and sent as they are."""

    __tablename__ = "webhook_messages"
    __table_args__ = (
        Index("ix_webhook_messages_list", "workspace_id", "created_at", "id"),
        Index("ix_webhook_messages_position", "workspace_id", "position"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    type: Mapped[str]
    resource: Mapped[str | None]
    """Id of what the event is about: messages about one thing leave in order."""
    position: Mapped[int] = mapped_column(BigInteger, Identity())
    """Grows with every event: the order in which they happened."""
    body: Mapped[bytes] = mapped_column(LargeBinary)
    test: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDelivery(Base):
    """One message to one endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'delivered', 'exhausted', 'discarded')", name="status"),
        Index(
            "ix_webhook_deliveries_pending",
            "endpoint_id",
            "priority",
            "next_attempt_at",
            "position",
            postgresql_where=text("status = 'pending'"),
        ),
        Index(
            "ix_webhook_deliveries_first",
            "endpoint_id",
            "resource",
            "position",
            postgresql_where=text("status = 'pending' and attempts = 0"),
        ),
        Index("ix_webhook_deliveries_endpoint", "endpoint_id", "message_id"),
    )

    message_id: Mapped[str] = mapped_column(ForeignKey("webhook_messages.id"), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"), primary_key=True)
    resource: Mapped[str | None]
    """The message's; null: in no order, as tests are."""
    position: Mapped[int | None] = mapped_column(BigInteger)
    priority: Mapped[int] = mapped_column(server_default="1")
    """0 for tests, which somebody waits for: they go first."""
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    delivered_at: Mapped[datetime | None]


class WebhookAttempt(Base):
    """One try of a delivery and its outcome, for the delivery log."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (
        Index("ix_webhook_attempts_delivery", "message_id", "endpoint_id"),
        Index("ix_webhook_attempts_endpoint", "endpoint_id", "at"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    message_id: Mapped[str]
    endpoint_id: Mapped[str]
    at: Mapped[datetime]
    status_code: Mapped[int | None]
    latency_ms: Mapped[int]
    error: Mapped[str | None]
    """``timeout``, ``tls``, ``unreachable`` … null when an answer came."""
    response: Mapped[str | None]
    """The beginning of the answer's body."""


class WebhookReplay(Base):
    """A job that sends an endpoint the events of a span of time again."""

    __tablename__ = "webhook_replays"
    __table_args__ = (
        CheckConstraint("status in ('running', 'completed', 'stopped')", name="status"),
        Index("uq_webhook_replays_running", "endpoint_id", unique=True, postgresql_where=text("status = 'running'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"), index=True)
    status: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime]
    only_failed: Mapped[bool]
    after_position: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Everything up to here has been looked at."""
    total: Mapped[int]
    examined: Mapped[int] = mapped_column(server_default="0")
    queued: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
