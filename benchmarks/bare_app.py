"""The least that an accepted deletion request costs: FastAPI and SQLAlchemy, the same rows in one transaction.

No credential, no checks, no answer but an id. Served by ``benchmarks.api_load``; ``BARE_DATABASE_URL`` and
``BARE_PLACE`` (workspace, model and data set) say where.
"""

import os
import secrets
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from core.access.tables import AuditEvent
from core.datasets.tables import Record
from core.deletions.tables import DeletionEvent, DeletionRecord, DeletionRequest, DeletionTarget
from core.platform.database import open_engine
from core.platform.ids import new_id
from core.platform.outbox import OutboxRow

_WORKSPACE, _MODEL, _DATASET = os.environ["BARE_PLACE"].split(",")
_ENGINE = open_engine(os.environ["BARE_DATABASE_URL"])

app = FastAPI()


class Asked(BaseModel):
    """As the service's, as far as it is used here."""

    model: str
    record_ids: list[str]
    reason: str


def _open() -> Any:
    with Session(_ENGINE, expire_on_commit=False) as tx, tx.begin():
        yield tx


Tx = Annotated[Session, Depends(_open, scope="function")]


@app.post("/v1/deletion-requests", status_code=202)
def submit(asked: Asked, tx: Tx) -> dict[str, str]:
    """Write what the service writes for records of one model."""
    request_id, at = new_id("del"), datetime.now(UTC)
    known = {"request_id": request_id, "at": at, "detail": {}, "actor": "key"}
    request = {"id": request_id, "workspace_id": _WORKSPACE, "status": "pending", "status_detail": "queued"}
    rest = {"reason": asked.reason, "metadata_": {}, "record_count": len(asked.record_ids), "already_erased": 0}
    tx.execute(insert(DeletionRequest).values(**request, **rest, revision=1, received_at=at, created_at=at))
    tx.execute(insert(DeletionTarget).values(request_id=request_id, model_id=_MODEL, status="pending"))
    tx.execute(
        insert(DeletionRecord),
        [{"request_id": request_id, "dataset_id": _DATASET, "record_id": one} for one in asked.record_ids],
    )
    chosen = Record.record_id.in_(asked.record_ids)
    tx.execute(update(Record).where(Record.dataset_id == _DATASET, chosen).values(state="pending_erasure"))
    tx.execute(insert(DeletionEvent).values(**known, sequence=1, type="created", status="pending"))
    payload = {"data": {"id": request_id}, "at": at.isoformat()}
    tx.execute(
        insert(OutboxRow).values(
            topic="event", name="deletion_request.created", workspace_id=_WORKSPACE, payload=payload
        )
    )
    said = {"actor": "key", "action": "deletion_request.submitted", "object_id": request_id, "details": {}}
    hashes = {"previous_hash": bytes(32), "hash": bytes(32), "sequence": secrets.randbits(62)}
    tx.execute(insert(AuditEvent).values(id=new_id("aud"), workspace_id=_WORKSPACE, at=at, **said, **hashes))
    return {"id": request_id}


@app.get("/v1/deletion-requests/{request_id}")
def read(request_id: str, tx: Tx) -> dict[str, Any]:
    """The request with its models."""
    row = tx.get_one(DeletionRequest, request_id)
    models = tx.scalars(select(DeletionTarget.model_id).where(DeletionTarget.request_id == request_id)).all()
    return {"id": row.id, "status": row.status, "models": list(models), "record_count": row.record_count}
