"""The object store as the rest of the service sees it: absolute URIs in, bytes out, nothing ever overwritten."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from core.platform.errors import Conflict, DependencyDown, InvalidInput

CHUNK_BYTES = 1024 * 1024


class ObjectExists(Conflict):
    """There is an object under this URI already, and objects are never overwritten."""

    code = "object_exists"


class StoreRefused(DependencyDown):
    """The object store answers and refuses the service's credentials."""

    code = "store_refused"


class StoreFull(DependencyDown):
    """The object store has no room for what is to be written."""

    code = "store_full"


class ForeignUri(InvalidInput):
    """The URI lies where this service may not read, or may not write."""

    code = "foreign_uri"


class DigestMismatch(InvalidInput):
    """An object's size or SHA-256 is not the one recorded: it was altered, cut short or replaced."""

    code = "digest_mismatch"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as a listing shows it."""

    uri: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Presigned:
    """A request that may be made without a key until it expires; ``headers`` must be sent as they are."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a large upload: PUT exactly ``size_bytes`` bytes to ``url``. Numbers count from 1."""

    number: int
    size_bytes: int
    url: str


class ObjectStore(Protocol):
    """Objects under ``root``, and readable sources elsewhere.

    Every method may raise ``DependencyDown`` (``StoreRefused``, ``StoreFull``) when the store does not answer,
    and ``ForeignUri`` for a URI outside ``root`` (writing, deleting) or outside ``root`` and the configured source
    roots (reading).
    """

    root: str
    """``s3://bucket/prefix/`` or ``file:///directory/``; ends in a slash."""

    def uri(self, key: str) -> str:
        """The absolute URI of ``key`` below ``root``. A key that ends in a slash names a folder."""
        ...

    def put_file(self, uri: str, path: Path) -> None:
        """Store the file; a reader sees all of it or nothing. Raises ``ObjectExists``."""
        ...

    def put_bytes(self, uri: str, data: bytes) -> None:
        """Store a small object; a reader sees all of it or nothing. Raises ``ObjectExists``."""
        ...

    def get_file(self, uri: str, path: Path) -> None:
        """Copy the object to ``path``. Raises ``FileNotFoundError``."""
        ...

    def open(self, uri: str) -> BinaryIO:
        """The object's bytes as a stream that the caller closes. Raises ``FileNotFoundError``."""
        ...

    def size(self, uri: str) -> int | None:
        """The object's size in bytes; None when there is none."""
        ...

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """Every object below the folder ``prefix_uri`` (which ends in a slash), in order of URI."""
        ...

    def delete(self, uris: Iterable[str]) -> None:
        """Remove objects; one that is missing is fine."""
        ...

    def presign_get(self, uri: str, *, ttl_s: int, filename: str | None = None) -> str:
        """A URL that answers GET with the object for ``ttl_s`` seconds; ``filename``: what a browser saves it as."""
        ...

    def presign_put(self, uri: str, *, size_bytes: int, sha256: str, ttl_s: int) -> Presigned:
        """A request that stores exactly this content. Stores that cannot check the digest leave it to the caller."""
        ...

    def start_parts(self, uri: str, *, size_bytes: int) -> str | None:
        """Begin an upload in parts and return its handle; None when one PUT will do."""
        ...

    def part_links(self, uri: str, handle: str, *, size_bytes: int, ttl_s: int) -> tuple[Part, ...]:
        """Where to send each part of an upload begun with ``start_parts``."""
        ...

    def finish_parts(self, uri: str, handle: str, *, size_bytes: int) -> bool:
        """Make one object of the parts. False when they are not all there, or the handle is not known (any more)."""
        ...

    def abort_parts(self, uri: str, handle: str) -> None:
        """Forget an upload in parts and what was sent of it; an unknown handle is fine."""
        ...

    def check(self) -> None:
        """A cheap round trip, without retries. Raises ``DependencyDown`` in words an operator can act on."""
        ...


def relative_path(prefix_uri: str, uri: str) -> str:
    """The path of an object within a folder: ``file:`` URIs are percent-decoded, others taken as they are.

    Bytes of a file's name that are no UTF-8 become what the file system calls them, halves of surrogate pairs.
    """
    rest = uri.removeprefix(prefix_uri)
    return unquote(rest, errors="surrogateescape") if uri.startswith("file:") else rest
