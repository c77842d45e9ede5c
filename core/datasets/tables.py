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
        CheckConstraint("rewrite in ('ours', 'never')", name="rewrite"),
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
    """SHA-256 over the present files' digests and the column map."""
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """``{"train": n, "test": m}`` as indexed; erased records stay counted."""
    subjects: Mapped[int] = mapped_column(server_default="0")
    index_lease_until: Mapped[datetime | None]
    edition: Mapped[int] = mapped_column(server_default="1")
    """Counts up whenever files are written anew without erased records."""
    rewrite: Mapped[str] = mapped_column(server_default="ours")
    """``ours``: files without erased records are written into our own store; ``never``: the owner sees to it."""
    rewrite_attempt: Mapped[int] = mapped_column(server_default="0")
    """Counts the claims of rewriters; only the latest may switch the files."""
    rewrite_lease_until: Mapped[datetime | None]
    rewrite_error: Mapped[dict[str, Any] | None]
    """Why the latest attempt to rewrite came to nothing; null after one that did not fail."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]


class DatasetEdition(Base):
    """What the files of a data set were taken together, from ``created_at`` until the next edition."""

    __tablename__ = "dataset_editions"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    edition: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    records_removed: Mapped[int] = mapped_column(server_default="0")
    """How many records it has less than the edition before."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SupersededFile(Base):
    """A file of earlier editions, which still holds what has been erased since."""

    __tablename__ = "superseded_files"
    __table_args__ = (Index("ix_superseded_files_kept", "keep_until", postgresql_where=text("purged_at is null")),)

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    last_edition: Mapped[int] = mapped_column(primary_key=True)
    """The last edition that it was part of."""
    path: Mapped[str]
    uri: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)
    ours: Mapped[bool]
    """Whether it lies in our own store; elsewhere only its owner can delete it."""
    superseded_at: Mapped[datetime] = mapped_column(server_default=func.now())
    keep_until: Mapped[datetime]
    """Until then records that have left may be read from it."""
    purged_at: Mapped[datetime | None]
    """When it was deleted, or, where it was its owner's to delete, found to be gone."""


class DatasetFile(Base):
    """One file of a data set's present edition, in reading order."""

    __tablename__ = "dataset_files"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    uri: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)
    identities_key_id: Mapped[str | None]
    """The secret under which all identities of this file have digests; null: before that was noted, or has none."""


class Record(Base):
    """Where a record lies and whether it may still be used. Never its content.

    No index holds ``state``, and pages keep some room: ten thousand changes of state are then four times as fast.
    """

    __tablename__ = "records"
    __table_args__ = (
        CheckConstraint("state in ('active', 'pending_erasure', 'erased')", name="state"),
        Index("ix_records_subject", "dataset_id", "subject_id", postgresql_where=text("subject_id is not null")),
        Index("ix_records_removed", "dataset_id", "file", "row", postgresql_where=text("last_edition is not null")),
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
    """Its place in the first edition, for good; ``places`` gives that in another."""
    last_edition: Mapped[int | None]
    """The last edition of the files that holds it; null: the present one does."""


class RecordIdentity(Base):
    """A keyed digest of something that identifies the person a record is about; never the value."""

    __tablename__ = "record_identities"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    type: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    record_id: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str | None]
    """The secret that the digest was made with; null: before that was noted."""
