"""Data sets, their files, and the index of their records."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.platform.database import Base


class Dataset(Base):
    """Training records of models. ``columns`` maps our names (record_id, image …) to the files' columns."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("workspace_id", "name"),
        CheckConstraint("status in ('indexing', 'ready', 'failed')", name="status"),
        Index("ix_datasets_indexing", "id", postgresql_where=text("status = 'indexing'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str]
    task: Mapped[str]
    format: Mapped[str]
    columns: Mapped[dict[str, Any]]
    image_shape: Mapped[list[int] | None]
    """``[h, w, c]`` of raw pixel columns."""
    prompt_template: Mapped[str] = mapped_column(server_default="{prompt} ")
    source_uri: Mapped[str]
    status: Mapped[str]
    error: Mapped[dict[str, Any] | None]
    fingerprint: Mapped[str | None]
    """SHA-256 over the files' digests and the column map."""
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """``{"train": n, "test": m}`` as indexed."""
    subjects: Mapped[int] = mapped_column(server_default="0")
    index_lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]


class DatasetFile(Base):
    """One file of a data set, in reading order."""

    __tablename__ = "dataset_files"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    uri: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)


class Record(Base):
    """Where a record lies and whether it may still be used. Never its content.

    No index holds ``state``, and pages keep some room: ten thousand changes of state are then four times as fast.
    """

    __tablename__ = "records"
    __table_args__ = (
        CheckConstraint("state in ('active', 'pending_erasure', 'erased')", name="state"),
        Index("ix_records_subject", "dataset_id", "subject_id", postgresql_where=text("subject_id is not null")),
        {"postgresql_with": {"fillfactor": 90}},
    )

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    record_id: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[str | None]
    split: Mapped[str]
    """``train`` (what models were trained on) or ``test`` (held out)."""
    state: Mapped[str] = mapped_column(server_default="active")
    file: Mapped[int]
    row: Mapped[int] = mapped_column(BigInteger)


class RecordIdentity(Base):
    """A keyed digest of something that identifies the person a record is about; never the value."""

    __tablename__ = "record_identities"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    type: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    record_id: Mapped[str] = mapped_column(primary_key=True)
