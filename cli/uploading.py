"""A local file or folder into the service's object store, with progress bars."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from cli.client import Api
from cli.output import Failed, stderr

_CHUNK: Final = 1024 * 1024


def upload(api: Api, place: Path) -> str:
    """Upload a file, or every file below a folder; the id of the complete upload.

    The store is talked to without the API key. Raises ``Failed`` when there is nothing to upload or the store refuses.
    """
    files = _files(place)
    total = sum(path.stat().st_size for path in files.values())
    with _bars() as bars, httpx.Client(timeout=300) as store:
        reading = bars.add_task("checksums", total=total)
        announced = [_announce(name, path, bars, reading) for name, path in files.items()]
        opened = api.post("/v1/uploads", {"files": announced})
        sending = bars.add_task("upload", total=total)
        for target in opened["files"]:
            _send(store, target, files[target["path"]], bars, sending)
    api.post(f"/v1/uploads/{opened['id']}/complete")
    return str(opened["id"])


def _bars() -> Progress:
    columns = (TextColumn("{task.description:<10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)


def _files(place: Path) -> dict[str, Path]:
    if place.is_file():
        return {place.name: place}
    if not place.is_dir():
        raise Failed(f"{place} does not exist")
    files = {path.relative_to(place).as_posix(): path for path in sorted(place.rglob("*")) if path.is_file()}
    if not files:
        raise Failed(f"{place} holds no files")
    return files


def _announce(name: str, path: Path, bars: Progress, task: TaskID) -> dict[str, Any]:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            bars.advance(task, len(chunk))
    return {"path": name, "size": size, "sha256": digest.hexdigest()}


def _send(store: httpx.Client, target: Mapping[str, Any], path: Path, bars: Progress, task: TaskID) -> None:
    start = 0
    pieces = target.get("parts") or [{"size": path.stat().st_size, "url": target["url"]}]
    for piece in pieces:
        headers = {**(target.get("headers") or {}), "Content-Length": str(piece["size"])}
        content = _slice(path, start, piece["size"], bars, task)
        answer = store.request(target.get("method", "PUT"), piece["url"], headers=headers, content=content)
        if not answer.is_success:
            raise Failed(f"the object store refuses {target['path']}: {answer.status_code} {answer.text[:300]}")
        start += piece["size"]


def _slice(path: Path, start: int, size: int, bars: Progress, task: TaskID) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while size > 0 and (chunk := file.read(min(_CHUNK, size))):
            size -= len(chunk)
            bars.advance(task, len(chunk))
            yield chunk
