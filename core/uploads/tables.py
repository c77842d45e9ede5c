"""Uploads: files on their way into the service."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class Upload(Base):
    """Files a caller announced. ``files``: path, size, sha256, uri and, if multipart, the store's upload id."""

    __tablename__ = "uploads"
    __table_args__ = (CheckConstraint("status in ('open', 'complete', 'used', 'expired')", name="status"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"), index=True)
    status: Mapped[str]
    prefix_uri: Mapped[str]
    files: Mapped[list[dict[str, Any]]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
