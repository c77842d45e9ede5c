"""Models, their immutable versions, the versions' files, and the aliases that point at versions."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class Model(Base):
    """A named line of weights, trained on one data set."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("workspace_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str]
    task: Mapped[str]
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    policy: Mapped[str | None]
    """Name of a policy; null: the built-in default."""
    description: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ModelVersion(Base):
    """Immutable weights under one folder URI. ``digest``: SHA-256 over the sorted (path, sha256) pairs."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        UniqueConstraint("run_id"),
        CheckConstraint("state in ('active', 'retired', 'purged')", name="state"),
        CheckConstraint("version >= 1", name="version_positive"),
        Index("ix_model_versions_being_purged", "id", postgresql_where=text("state = 'purged' and purged_at is null")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int]
    parent_version: Mapped[int | None]
    state: Mapped[str]
    run_id: Mapped[str | None]
    certificate_id: Mapped[str | None]
    uri: Mapped[str]
    digest: Mapped[str]
    metrics: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
    purge_blocked: Mapped[list[str] | None]
    """What keeps a version from being purged that is due: ``alias:production``, ``legal_hold``, ``run``."""
    purged_at: Mapped[datetime | None]
    """When the files of a purged version were gone, those included that were its owner's to delete."""
    original_retained_at: Mapped[datetime | None]
    """Since when files of a purged version that lie elsewhere wait for their owner to delete them."""


class ModelFile(Base):
    """One file of a version."""

    __tablename__ = "model_files"

    version_id: Mapped[str] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    uri: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]


class ModelAlias(Base):
    """A movable name of a version: ``latest``, ``production`` or the caller's own."""

    __tablename__ = "model_aliases"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
