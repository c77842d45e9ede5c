"""Moving files between disk and object store with size and SHA-256 checked on the way."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

from core.platform.objects.port import CHUNK_BYTES, DigestMismatch, ObjectStore
from core.unlearning.job import StoredFile

__all__ = [
    "MANIFEST",
    "DigestMismatch",
    "child_uri",
    "digest_stream",
    "fetch",
    "fetch_verified",
    "stored_digest",
    "upload_folder",
]

MANIFEST = "manifest.json"


def fetch_verified(store: ObjectStore, file: StoredFile, folder: Path) -> Path:
    """Copy an object to ``folder / file.path``, checking size and SHA-256 while reading.

    Raises ``DigestMismatch`` (and leaves no file), ``FileNotFoundError``, or ``DependencyDown``.
    """
    target = folder / _checked(file.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    found = fetch(store, file.uri, target)
    if found != (file.size_bytes, file.sha256):
        target.unlink()
        raise DigestMismatch(f"{file.path} is not the file that was registered: its size or SHA-256 differs.")
    return target


def fetch(store: ObjectStore, uri: str, target: Path) -> tuple[int, str]:
    """Copy an object to ``target``; its size and SHA-256. Raises ``FileNotFoundError`` or ``DependencyDown``."""
    with store.open(uri) as source, target.open("wb") as file:
        return digest_stream(source, also=file.write)


def stored_digest(store: ObjectStore, uri: str) -> tuple[int, str]:
    """Size and SHA-256 of an object, read as a stream. Raises ``FileNotFoundError`` or ``DependencyDown``."""
    with store.open(uri) as source:
        return digest_stream(source)


def digest_stream(source: BinaryIO, also: Callable[[bytes], object] | None = None) -> tuple[int, str]:
    """Size and SHA-256 of what is left of a stream; every chunk is handed to ``also`` as well."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if also is not None:
            also(chunk)
    return size, digest.hexdigest()


def upload_folder(store: ObjectStore, folder: Path, prefix_uri: str) -> tuple[StoredFile, ...]:
    """Store every file below ``folder`` under ``prefix_uri``, read each back, and write ``manifest.json`` last.

    Returns the files without the manifest, in order of path. Raises ``ObjectExists``, ``DigestMismatch`` or
    ``DependencyDown``; without its manifest a folder was not uploaded to the end. ``ValueError`` when the folder holds
    a manifest already.
    """
    if (folder / MANIFEST).exists():
        raise ValueError("the folder to upload holds a manifest.json of its own")
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = tuple(_upload(store, folder / path, path, prefix_uri) for path in paths)
    manifest = json.dumps({"files": [asdict(file) for file in files]}, indent=1)
    store.put_bytes(child_uri(prefix_uri, MANIFEST), manifest.encode())
    return files


def _upload(store: ObjectStore, source: Path, path: str, prefix_uri: str) -> StoredFile:
    uri = child_uri(prefix_uri, path)
    with source.open("rb") as stream:
        expected = digest_stream(stream)
    store.put_file(uri, source)
    if stored_digest(store, uri) != expected:
        raise DigestMismatch(f"{path} did not arrive in the object store as it was sent.")
    return StoredFile(path, uri, *expected)


def child_uri(prefix_uri: str, path: str) -> str:
    """The URI of ``path`` within the folder ``prefix_uri``."""
    return prefix_uri + (quote(path) if prefix_uri.startswith("file:") else path)


def _checked(path: str) -> PurePosixPath:
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ValueError("a stored file's path must stay within its folder")
    return relative
