"""All SQL on uploads."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.uploads.errors import UploadNotFound
from core.uploads.tables import Upload


class Uploads:
    """Uploads as seen by one transaction."""

    def __init__(self, tx: Session) -> None:
        self._tx = tx

    def get(self, workspace_id: str, upload_id: str) -> Upload:
        """Raises ``UploadNotFound`` for an unknown id and for another workspace's."""
        found = self._tx.get(Upload, upload_id)
        if found is None or found.workspace_id != workspace_id:
            raise UploadNotFound("There is no such upload.")
        return found

    def lock(self, workspace_id: str, upload_id: str) -> Upload:
        """The upload with its row locked until the transaction ends. Raises ``UploadNotFound``."""
        found = self._tx.scalar(
            select(Upload)
            .where(Upload.id == upload_id, Upload.workspace_id == workspace_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        if found is None:
            raise UploadNotFound("There is no such upload.")
        return found

    def by_prefix(self, prefix_uri: str, *, lock: bool = False) -> Upload | None:
        """The upload whose files lie under this folder; ``lock``: until the transaction ends."""
        query = select(Upload).where(Upload.prefix_uri == prefix_uri)
        return self._tx.scalar(query.with_for_update() if lock else query)

    def add(self, upload: Upload) -> Upload:
        """Insert an upload."""
        self._tx.add(upload)
        self._tx.flush()
        return upload

    def take_expired(self, at: datetime, *, limit: int) -> Sequence[Upload]:
        """Lock uploads that were neither completed nor used in time; others skip them meanwhile."""
        return self._tx.scalars(
            select(Upload)
            .where(Upload.status.in_(("open", "complete")), Upload.expires_at <= at)
            .order_by(Upload.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
