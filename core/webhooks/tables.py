"""Webhook endpoints, messages, and what became of each delivery."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class WebhookEndpoint(Base):
    """Where a workspace wants to hear of events. Secrets are sealed at rest."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    url: Mapped[str]
    events: Mapped[list[str]]
    """Event types or prefixes such as ``deletion_request.*``; empty: all."""
    description: Mapped[str | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class WebhookMessage(Base):
    """One event as it is sent: the body's bytes are fixed here and signed and sent as they are."""

    __tablename__ = "webhook_messages"
    __table_args__ = (Index("ix_webhook_messages_list", "workspace_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    type: Mapped[str]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    test: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDelivery(Base):
    """One message to one endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'delivered', 'exhausted', 'discarded')", name="status"),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        Index("ix_webhook_deliveries_endpoint", "endpoint_id", "message_id"),
    )

    message_id: Mapped[str] = mapped_column(ForeignKey("webhook_messages.id"), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"), primary_key=True)
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    delivered_at: Mapped[datetime | None]


class WebhookAttempt(Base):
    """One try of a delivery and its outcome, for the delivery log."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (Index("ix_webhook_attempts_delivery", "message_id", "endpoint_id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    message_id: Mapped[str]
    endpoint_id: Mapped[str]
    at: Mapped[datetime]
    status_code: Mapped[int | None]
    latency_ms: Mapped[int]
    error: Mapped[str | None]
    """``timeout``, ``tls``, ``unreachable`` … null when an answer came."""
    response: Mapped[str | None]
    """The first kilobyte of the answer."""
