"""Uploads."""

from typing import Annotated

from fastapi import APIRouter, Response

from api.deps import Config, Now, Store, Tx, requires
from api.errors import problems
from api.idempotency import Once
from api.schemas.uploads import UploadIn, UploadOut
from core.access.principal import Principal
from core.uploads import service
from core.uploads.repository import Uploads

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])


@router.post(
    "",
    status_code=201,
    response_model=UploadOut,
    summary="Announce files",
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
)
def open_upload(
    body: UploadIn,
    caller: Annotated[Principal, requires("datasets:write")],
    tx: Tx,
    store: Store,
    settings: Config,
    now: Now,
    once: Once,
) -> Response:
    """Answers with a link for each file. Send the files there, then complete the upload.

    Links need no key and expire; `GET` gives fresh ones while the upload is open.
    """

    def make() -> UploadOut:
        files = [file.to_command() for file in body.files]
        upload = service.open_upload(
            tx,
            store,
            workspace_id=caller.workspace_id,
            actor=caller.key_id,
            files=files,
            limits=settings.uploads,
            at=now,
        )
        return UploadOut.of(upload, service.places(store, upload, ttl_s=settings.store.presign_ttl_s, at=now))

    return once(201, make, headers=lambda out: {"Location": f"/v1/uploads/{out.id}"})


@router.post(
    "/{upload_id}/complete",
    response_model=UploadOut,
    summary="Complete an upload",
    responses=problems(401, 403, 404, 409, 413, 415, 422, 503),
)
def complete_upload(
    upload_id: str,
    caller: Annotated[Principal, requires("datasets:write")],
    tx: Tx,
    store: Store,
    settings: Config,
    now: Now,
) -> UploadOut:
    """Reads every file and compares size and SHA-256 with what was announced.

    Files that differ are named, dropped, and may be sent again. Completing twice is harmless.
    """
    upload = service.complete(
        tx, store, workspace_id=caller.workspace_id, actor=caller.key_id, upload_id=upload_id, at=now
    )
    return UploadOut.of(upload, service.places(store, upload, ttl_s=settings.store.presign_ttl_s, at=now))


@router.get("/{upload_id}", response_model=UploadOut, summary="Read an upload", responses=problems(401, 403, 404, 503))
def get_upload(
    upload_id: str,
    caller: Annotated[Principal, requires("datasets:read")],
    tx: Tx,
    store: Store,
    settings: Config,
    now: Now,
) -> UploadOut:
    """Its state and, while it is open, fresh links."""
    upload = Uploads(tx).get(caller.workspace_id, upload_id)
    return UploadOut.of(upload, service.places(store, upload, ttl_s=settings.store.presign_ttl_s, at=now))
