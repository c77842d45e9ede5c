"""Use cases on uploads. Bytes go to the object store directly; here they are announced, verified and handed on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from core.access import audit
from core.platform.errors import Problem
from core.platform.ids import new_id
from core.platform.objects import ObjectExists, ObjectStore, Part, Presigned
from core.platform.objects.transfer import stored_digest
from core.platform.settings import UploadSettings
from core.unlearning.job import StoredFile
from core.uploads.errors import UploadExpired, UploadNotComplete, UploadRejected, UploadUsed
from core.uploads.lifecycle import UploadStatus, advance
from core.uploads.paths import path_problems
from core.uploads.repository import Uploads
from core.uploads.tables import Upload


@dataclass(frozen=True, slots=True)
class AnnouncedFile:
    """What a caller says it will send."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where one file is to be sent: by one request, or in parts."""

    path: str
    request: Presigned | None
    parts: tuple[Part, ...] | None


def open_upload(
    tx: Session,
    store: ObjectStore,
    *,
    workspace_id: str,
    actor: str,
    files: Sequence[AnnouncedFile],
    limits: UploadSettings,
    at: datetime,
) -> Upload:
    """Announce files. Raises ``UploadRejected`` for unacceptable paths or too much at once."""
    _check(files, limits)
    upload_id = new_id("up")
    prefix = f"uploads/{workspace_id}/{upload_id}/"
    rows: list[dict[str, Any]] = []
    for file in files:
        uri = store.uri(prefix + file.path)
        handle = store.start_parts(uri, size_bytes=file.size_bytes)
        rows.append(
            {"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256, "uri": uri, "parts": handle}
        )
    upload = Uploads(tx).add(
        Upload(
            id=upload_id,
            workspace_id=workspace_id,
            status=UploadStatus.OPEN,
            prefix_uri=store.uri(prefix),
            files=rows,
            created_at=at,
            expires_at=at + timedelta(seconds=limits.ttl_s),
        )
    )
    _note(tx, upload, "opened", actor, at)
    return upload


def places(store: ObjectStore, upload: Upload, *, ttl_s: int, at: datetime) -> tuple[Place, ...]:
    """Where to send each file of an open upload, by fresh links; an upload that takes no more has none."""
    if upload.status != UploadStatus.OPEN or upload.expires_at <= at:
        return tuple(Place(row["path"], None, None) for row in upload.files)
    return tuple(_place(store, row, ttl_s) for row in upload.files)


def complete(tx: Session, store: ObjectStore, *, workspace_id: str, actor: str, upload_id: str, at: datetime) -> Upload:
    """Verify size and SHA-256 of every file by reading it, then close the upload; repeating it is harmless.

    A file that is not the one announced is deleted, so that it can be sent again. Raises ``UploadRejected`` naming
    each file, ``UploadExpired``, ``UploadNotFound``.
    """
    upload = Uploads(tx).lock(workspace_id, upload_id)
    if upload.status in (UploadStatus.COMPLETE, UploadStatus.USED):
        return upload
    _check_alive(upload, at)
    problems = [problem for i, row in enumerate(upload.files) if (problem := _verify(store, i, row)) is not None]
    if problems:
        raise UploadRejected("Some files are missing or are not the ones announced.", problems)
    upload.status = advance(upload.status, UploadStatus.COMPLETE)
    tx.flush()
    _note(tx, upload, "completed", actor, at)
    return upload


def use(tx: Session, *, workspace_id: str, upload_id: str, at: datetime) -> tuple[str, tuple[StoredFile, ...]]:
    """Take a complete upload for one purpose: its folder's URI and its verified files.

    Raises ``UploadNotFound``, ``UploadNotComplete``, ``UploadUsed``, ``UploadExpired``.
    """
    upload = Uploads(tx).lock(workspace_id, upload_id)
    if upload.status == UploadStatus.USED:
        raise UploadUsed("This upload is part of a data set or a model version already.")
    _check_alive(upload, at)
    if upload.status != UploadStatus.COMPLETE:
        raise UploadNotComplete("Complete the upload first.")
    upload.status = advance(upload.status, UploadStatus.USED)
    tx.flush()
    return upload.prefix_uri, _stored(upload)


def used(tx: Session, *, prefix_uri: str) -> tuple[StoredFile, ...]:
    """The files of the upload with this folder, as verified; none when there is no such upload."""
    upload = Uploads(tx).by_prefix(prefix_uri)
    return _stored(upload) if upload is not None and upload.status == UploadStatus.USED else ()


def release(tx: Session, *, prefix_uri: str, at: datetime, ttl_s: int = 24 * 3600) -> None:
    """Give a used upload back because what used it failed: it can be used again, for a while. No upload: nothing."""
    upload = Uploads(tx).by_prefix(prefix_uri, lock=True)
    if upload is None or upload.status != UploadStatus.USED:
        return
    upload.status = advance(upload.status, UploadStatus.COMPLETE)
    upload.expires_at = at + timedelta(seconds=ttl_s)
    tx.flush()


def expire(tx: Session, store: ObjectStore, *, at: datetime, limit: int = 20) -> int:
    """Delete the files of uploads whose time is over; how many uploads that were. For the sweeper."""
    overdue = Uploads(tx).take_expired(at, limit=limit)
    for upload in overdue:
        for row in upload.files:
            if row["parts"] is not None:
                store.abort_parts(row["uri"], row["parts"])
        store.delete(row["uri"] for row in upload.files)
        upload.status = advance(upload.status, UploadStatus.EXPIRED)
    tx.flush()
    return len(overdue)


def _note(tx: Session, upload: Upload, happened: str, actor: str, at: datetime) -> None:
    """Names of files are the caller's own words and may say anything, so there are only numbers."""
    size = sum(int(row["size_bytes"]) for row in upload.files)
    audit.note(
        tx,
        workspace_id=upload.workspace_id,
        actor=actor,
        action=f"upload.{happened}",
        object_id=upload.id,
        details={"files": len(upload.files), "size_bytes": size},
        at=at,
    )


def _stored(upload: Upload) -> tuple[StoredFile, ...]:
    return tuple(StoredFile(row["path"], row["uri"], row["size_bytes"], row["sha256"]) for row in upload.files)


def _check(files: Sequence[AnnouncedFile], limits: UploadSettings) -> None:
    problems = path_problems([file.path for file in files])
    if not 1 <= len(files) <= limits.max_files:
        problems.append(Problem("/files", "file_count", f"An upload has 1 to {limits.max_files} files."))
    if sum(file.size_bytes for file in files) > limits.max_bytes:
        problems.append(Problem("/files", "too_large", f"An upload has at most {limits.max_bytes} bytes."))
    if problems:
        raise UploadRejected("The upload is not acceptable.", problems)


def _check_alive(upload: Upload, at: datetime) -> None:
    if upload.status == UploadStatus.EXPIRED or upload.expires_at <= at:
        raise UploadExpired("This upload has expired; open a new one.")


def _place(store: ObjectStore, row: dict[str, Any], ttl_s: int) -> Place:
    uri, size = row["uri"], row["size_bytes"]
    if row["parts"] is not None:
        return Place(row["path"], None, store.part_links(uri, row["parts"], size_bytes=size, ttl_s=ttl_s))
    return Place(row["path"], store.presign_put(uri, size_bytes=size, sha256=row["sha256"], ttl_s=ttl_s), None)


def _verify(store: ObjectStore, index: int, row: dict[str, Any]) -> Problem | None:
    pointer = f"/files/{index}"
    if row["parts"] is not None:
        _join_parts(store, row)
    try:
        size, sha256 = stored_digest(store, row["uri"])
    except FileNotFoundError:
        return Problem(pointer, "file_missing", "This file, or a part of it, has not been sent.")
    if (size, sha256) == (row["size_bytes"], row["sha256"]):
        return None
    store.delete([row["uri"]])
    again = "Open a new upload for it." if row["parts"] is not None else "Send it again."
    if size != row["size_bytes"]:
        return Problem(pointer, "size_mismatch", f"{size} bytes arrived, {row['size_bytes']} were announced. {again}")
    return Problem(pointer, "digest_mismatch", f"The SHA-256 of what arrived is not the one announced. {again}")


def _join_parts(store: ObjectStore, row: dict[str, Any]) -> None:
    try:
        store.finish_parts(row["uri"], row["parts"], size_bytes=row["size_bytes"])
    except ObjectExists:
        return  # joined by an earlier call; its digest is checked like any other
