"""Signed links into a directory store: the embedded default's counterpart of presigned S3 URLs."""

from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api.deps import Keys, Now, Store
from api.errors import problems
from core.platform.objects import DirectoryStore, ObjectExists, ObjectStore
from core.platform.objects.port import CHUNK_BYTES
from core.platform.objects.tokens import LinkInvalid, read

router = APIRouter(prefix="/v1/storage", tags=["storage"])

_BINARY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.get(
    "/{token}",
    summary="Download a file by its link",
    response_class=StreamingResponse,
    responses={200: {"description": "The file's bytes", **_BINARY}, **problems(404, 503)},
)
def download(token: str, store: Store, keyring: Keys, now: Now) -> StreamingResponse:
    """Needs no key: the link is signed and expires. Only services that keep objects in a directory have such links."""
    link = read(keyring, token, method="GET", at=now)
    directory = _directory(store)
    size = directory.size(link.uri)
    if size is None:
        raise LinkInvalid("The file of this link has been deleted.")
    headers = {"Content-Length": str(size)}
    if link.filename is not None:
        headers["Content-Disposition"] = f"attachment; filename*=utf-8''{quote(link.filename, safe='')}"
    return StreamingResponse(_chunks(directory.open(link.uri)), headers=headers, media_type="application/octet-stream")


@router.put(
    "/{token}",
    summary="Send a file to its link",
    status_code=200,
    response_class=Response,
    responses={200: {"description": "The file is stored"}, **problems(404, 422, 503)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "PAR1…"}
            },
        }
    },
)
async def upload(token: str, request: Request, store: Store, keyring: Keys, now: Now) -> Response:
    """Needs no key: the link is signed and expires. Unless size and SHA-256 are those announced, nothing is kept."""
    link = read(keyring, token, method="PUT", at=now)
    directory = _directory(store)
    sink = await run_in_threadpool(directory.sink, link.uri, size_bytes=link.size_bytes, sha256=link.sha256)
    try:
        async for chunk in request.stream():
            await run_in_threadpool(sink.write, chunk)
        await run_in_threadpool(sink.commit)
    except ObjectExists:
        pass  # the same content, sent before: a link fixes its digest
    finally:
        await run_in_threadpool(sink.close)
    return Response(status_code=200)


def _directory(store: ObjectStore) -> DirectoryStore:
    if not isinstance(store, DirectoryStore):
        raise LinkInvalid("This service keeps its objects elsewhere.")
    return store


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    with source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
