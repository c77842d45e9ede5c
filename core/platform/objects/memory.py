"""Objects in this process's memory, for tests of what stands on a store."""

import io
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from core.platform.clock import utc_now
from core.platform.objects.port import ForeignUri, ObjectExists, ObjectInfo, Part, Presigned


class MemoryStore:
    """An ``ObjectStore`` that dies with the process. Its links carry what they permit and lead nowhere."""

    def __init__(self, root: str = "mem://store/", *, readable: tuple[str, ...] = ()) -> None:
        self.root = root
        self._readable = readable
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    def uri(self, key: str) -> str:
        return self.root + key

    def put_file(self, uri: str, path: Path) -> None:
        self.put_bytes(uri, path.read_bytes())

    def put_bytes(self, uri: str, data: bytes) -> None:
        self._check(uri, (self.root,))
        with self._lock:
            if uri in self._objects:
                raise ObjectExists(f"There is an object at {uri} already.")
            self._objects[uri] = (data, utc_now())

    def place(self, uri: str, data: bytes) -> None:
        """Put something where the service itself may only read."""
        self._objects[uri] = (data, utc_now())

    def get_file(self, uri: str, path: Path) -> None:
        path.write_bytes(self._read(uri))

    def open(self, uri: str) -> BinaryIO:
        return io.BytesIO(self._read(uri))

    def size(self, uri: str) -> int | None:
        self._check(uri, (self.root, *self._readable))
        found = self._objects.get(uri)
        return None if found is None else len(found[0])

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        if not prefix_uri.endswith("/"):
            raise ValueError("the URI of a folder ends in a slash")
        self._check(prefix_uri, (self.root, *self._readable))
        found = sorted((uri, item) for uri, item in self._objects.items() if uri.startswith(prefix_uri))
        return iter([ObjectInfo(uri, len(data), at) for uri, (data, at) in found])

    def delete(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self._check(uri, (self.root,))
            self._objects.pop(uri, None)

    def presign_get(self, uri: str, *, ttl_s: int, filename: str | None = None) -> str:
        return f"{uri}?ttl_s={ttl_s}&filename={filename or ''}"

    def presign_put(self, uri: str, *, size_bytes: int, sha256: str, ttl_s: int) -> Presigned:
        self._check(uri, (self.root,))
        return Presigned("PUT", f"{uri}?ttl_s={ttl_s}&size={size_bytes}&sha256={sha256}")

    def start_parts(self, uri: str, *, size_bytes: int) -> str | None:  # noqa: ARG002
        return None

    def part_links(self, uri: str, handle: str, *, size_bytes: int, ttl_s: int) -> tuple[Part, ...]:
        raise NotImplementedError("memory takes every upload in one piece")

    def finish_parts(self, uri: str, handle: str, *, size_bytes: int) -> bool:  # noqa: ARG002
        return False

    def abort_parts(self, uri: str, handle: str) -> None:
        """Nothing was begun."""

    def check(self) -> None:
        """Memory always answers."""

    def _read(self, uri: str) -> bytes:
        self._check(uri, (self.root, *self._readable))
        try:
            return self._objects[uri][0]
        except KeyError:
            raise FileNotFoundError(uri) from None

    @staticmethod
    def _check(uri: str, roots: tuple[str, ...]) -> None:
        if ".." in uri.split("/") or not any(uri.startswith(root) for root in roots):
            raise ForeignUri("This URI lies outside the store.")
