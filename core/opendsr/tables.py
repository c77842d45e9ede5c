"""Data subject requests of OpenDSR controllers, the callbacks they asked for, and the certificates that signed.

No identity is kept anywhere here: of what the controller sent there is a keyed digest, and the native deletion
requests know records only.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class OpenDsrCertificate(Base):
    """A certificate that has signed receipts; kept for good, so that old receipts can be audited."""

    __tablename__ = "opendsr_certificates"

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    """Hex SHA-256 of the leaf in DER."""
    pem: Mapped[str]
    """The chain as it was published, leaf first."""
    first_used_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OpenDsrRequest(Base):
    """One data subject request. ``subject_request_id`` is the controller's and unique in its workspace."""

    __tablename__ = "opendsr_requests"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'in_progress', 'completed', 'cancelled')", name="status"),
        UniqueConstraint("workspace_id", "subject_request_id"),
        Index("ix_opendsr_requests_open", "hold_until", postgresql_where=text("status in ('pending', 'in_progress')")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    subject_request_id: Mapped[str]
    regulation: Mapped[str]
    legacy: Mapped[bool]
    """Made on a route of OpenGDPR 1.0: answers and callbacks carry both pairs of headers."""
    body_digest: Mapped[bytes] = mapped_column(LargeBinary)
    """HMAC of the request's canonical JSON."""
    sealed_body_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The key of that HMAC, random, encrypted under the service's secret; null: a key of the secret itself."""
    status: Mapped[str]
    state: Mapped[str]
    """The finer state, as last told."""
    reason: Mapped[str | None]
    native_revision: Mapped[int] = mapped_column(server_default="0")
    """Sum of the revisions of its deletion requests when they were last looked at."""
    told: Mapped[int] = mapped_column(server_default="0")
    """Grows by one with each event for webhooks: their ``sequence``."""
    submitted_time: Mapped[datetime]
    """When the data subject asked, by the controller's word."""
    received_time: Mapped[datetime]
    expected_completion_time: Mapped[datetime]
    hold_until: Mapped[datetime]
    cancelled_time: Mapped[datetime | None]
    completed_time: Mapped[datetime | None]
    results_count: Mapped[int | None]
    certificate_fingerprint: Mapped[str] = mapped_column(ForeignKey("opendsr_certificates.fingerprint"))
    """The certificate that signed the receipt."""


class OpenDsrWork(Base):
    """A native deletion request that a data subject request led to."""

    __tablename__ = "opendsr_work"

    opendsr_id: Mapped[str] = mapped_column(ForeignKey("opendsr_requests.id"), primary_key=True)
    deletion_request_id: Mapped[str] = mapped_column(ForeignKey("deletion_requests.id"), primary_key=True)
    ordinal: Mapped[int]
    superseded: Mapped[bool] = mapped_column(server_default=text("false"))
    """Failed or withdrawn, and asked for again: another deletion request stands in for it."""


class OpenDsrCallback(Base):
    """An address that wants to hear of every change of one request, exactly as the controller wrote it."""

    __tablename__ = "opendsr_callbacks"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    opendsr_id: Mapped[str] = mapped_column(ForeignKey("opendsr_requests.id"), index=True)
    url: Mapped[str]
    gone: Mapped[bool] = mapped_column(server_default=text("false"))
    """It answered 410: nothing more is sent there."""


class OpenDsrEvent(Base):
    """One change of state as one address is told it: the bytes are fixed here, and signed and sent as they are."""

    __tablename__ = "opendsr_events"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'delivered', 'exhausted', 'discarded')", name="status"),
        UniqueConstraint("event_id", "callback_id"),
        Index("ix_opendsr_events_pending", "callback_id", "id", postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    """Grows with time: the order in which an address hears of the changes."""
    event_id: Mapped[str]
    callback_id: Mapped[int] = mapped_column(ForeignKey("opendsr_callbacks.id"))
    request_status: Mapped[str]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class OpenDsrAttempt(Base):
    """One try to deliver an event, for the delivery log."""

    __tablename__ = "opendsr_attempts"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    opendsr_event: Mapped[int] = mapped_column(ForeignKey("opendsr_events.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]
    status_code: Mapped[int | None]
    latency_ms: Mapped[int]
    error: Mapped[str | None]
    response: Mapped[str | None]
