"""Objects as files of one directory, for a service that lives on one machine."""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote, unquote

from core.platform.clock import Clock, utc_now
from core.platform.disk import is_full
from core.platform.errors import DependencyDown
from core.platform.objects.port import (
    CHUNK_BYTES,
    DigestMismatch,
    ForeignUri,
    ObjectExists,
    ObjectInfo,
    Part,
    Presigned,
    StoreFull,
)
from core.platform.objects.tokens import StorageLink, sign
from core.platform.secrets import Keyring

_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class _Source:
    """A directory outside the store that may be read, as it is called and as it is."""

    called: Path
    real: Path
    by_workspace: bool

    def home_of(self, path: Path) -> Path | None:
        """The directory that ``path`` belongs to and must not lead out of; None when it is not of this source."""
        for root in (self.called, self.real):
            if path.is_relative_to(root):
                inside = path.relative_to(root).parts
                return self.real.joinpath(*inside[:1]) if self.by_workspace else self.real
        return None


class DirectoryStore:
    """An ``ObjectStore`` in a directory; links lead to the service's own ``/v1/storage/{token}``.

    Writes are made beside the objects and linked into place, which is atomic and fails if the name is taken.
    """

    def __init__(
        self,
        folder: Path,
        *,
        public_url: str,
        keyring: Keyring | None,
        readable: Sequence[Path] = (),
        by_workspace: Sequence[Path] = (),
        clock: Clock = utc_now,
    ) -> None:
        """folder: made if missing. readable: other directories that may be read; by_workspace: those in which each
        workspace has a folder of its own. keyring: needed for links only.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder.resolve()
        shared = [_Source(path, path.resolve(), by_workspace=False) for path in readable]
        self._sources = (*shared, *(_Source(path, path.resolve(), by_workspace=True) for path in by_workspace))
        self._public_url = public_url.rstrip("/")
        self._keyring = keyring
        self._clock = clock
        self.root = f"{self._folder.as_uri()}/"

    def uri(self, key: str) -> str:
        return self.root + quote(key)

    def put_file(self, uri: str, path: Path) -> None:
        with path.open("rb") as source, self.sink(uri) as sink:
            while chunk := source.read(CHUNK_BYTES):
                sink.write(chunk)
            sink.commit()

    def put_bytes(self, uri: str, data: bytes) -> None:
        with self.sink(uri) as sink:
            sink.write(data)
            sink.commit()

    def get_file(self, uri: str, path: Path) -> None:
        with self.open(uri) as source, path.open("wb") as target, _disk():
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def open(self, uri: str) -> BinaryIO:
        path = self._to_read(uri)
        with _disk():
            if not path.is_file():
                raise FileNotFoundError(uri)
            return path.open("rb")

    def size(self, uri: str) -> int | None:
        path = self._to_read(uri)
        with _disk():
            return path.stat().st_size if path.is_file() else None

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        if not prefix_uri.endswith("/"):
            raise ValueError("the URI of a folder ends in a slash")
        folder = self._to_read(prefix_uri)
        found: list[ObjectInfo] = []
        with _disk():
            for parent, folders, names in os.walk(folder):
                if Path(parent) == self._folder:
                    folders[:] = [name for name in folders if name != _PARTIAL]
                for name in names:
                    with suppress(FileNotFoundError):  # deleted since, or a link that leads nowhere
                        found.append(self._info(prefix_uri, folder, Path(parent, name)))
        return iter(sorted(found, key=lambda info: info.uri))

    def delete(self, uris: Iterable[str]) -> None:
        for uri in uris:
            path = self._to_write(uri)
            with _disk():
                path.unlink(missing_ok=True)

    def presign_get(self, uri: str, *, ttl_s: int, filename: str | None = None) -> str:
        self._to_read(uri)
        return self._link(StorageLink("GET", uri, self._expiry(ttl_s), filename=filename))

    def presign_put(self, uri: str, *, size_bytes: int, sha256: str, ttl_s: int) -> Presigned:
        self._to_write(uri)
        return Presigned("PUT", self._link(StorageLink("PUT", uri, self._expiry(ttl_s), size_bytes, sha256)))

    def start_parts(self, uri: str, *, size_bytes: int) -> str | None:  # noqa: ARG002
        return None  # one PUT takes any size

    def part_links(self, uri: str, handle: str, *, size_bytes: int, ttl_s: int) -> tuple[Part, ...]:
        raise NotImplementedError("a directory takes every upload in one piece")

    def finish_parts(self, uri: str, handle: str, *, size_bytes: int) -> bool:  # noqa: ARG002
        return False

    def abort_parts(self, uri: str, handle: str) -> None:
        """Nothing was begun."""

    def check(self) -> None:
        if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise DependencyDown(f"The object directory {self._folder} cannot be written to.")

    def sink(self, uri: str, *, size_bytes: int | None = None, sha256: str | None = None) -> "Sink":
        """A place to write one new object chunk by chunk, checked against what was announced."""
        return Sink(self._folder / _PARTIAL, self._to_write(uri), uri, size_bytes=size_bytes, sha256=sha256)

    def _expiry(self, ttl_s: int) -> float:
        return self._clock().timestamp() + ttl_s

    def _link(self, link: StorageLink) -> str:
        if self._keyring is None:
            raise RuntimeError("links need the service's secret")
        return f"{self._public_url}/v1/storage/{sign(self._keyring, link)}"

    def _info(self, prefix_uri: str, folder: Path, path: Path) -> ObjectInfo:
        uri = prefix_uri + quote(os.fsencode(path.relative_to(folder)))
        stat = self._to_read(uri).stat()
        return ObjectInfo(uri, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def _to_read(self, uri: str) -> Path:
        path = _path(uri)
        real = _resolved(path)  # a link that leads out of the roots is outside
        if not self._is_open(path, real):
            raise ForeignUri("This file lies outside the directories the service may read.")
        return real

    def _is_open(self, path: Path, real: Path) -> bool:
        """Whether ``path``, which is really ``real``, may be read.

        Who can put links into a source must not read by them what is another's, nor the service's own store.
        """
        if path.is_relative_to(self._folder):
            return real.is_relative_to(self._folder)
        homes = [home for root in self._sources if (home := root.home_of(path)) is not None]
        if homes:
            return any(real.is_relative_to(home) for home in homes) and not real.is_relative_to(self._folder)
        return any(real.is_relative_to(root) for root in (self._folder, *(root.real for root in self._sources)))

    def _to_write(self, uri: str) -> Path:
        path = _resolved(_path(uri))
        if (
            path == self._folder
            or not path.is_relative_to(self._folder)
            or path.is_relative_to(self._folder / _PARTIAL)
        ):
            raise ForeignUri("This file lies outside the service's own store.")
        return path


class Sink:
    """One new object in the making. Leaving without ``commit`` leaves nothing behind."""

    def __init__(self, partial: Path, target: Path, uri: str, *, size_bytes: int | None, sha256: str | None) -> None:
        self._target, self._uri, self._size, self._sha256 = target, uri, size_bytes, sha256
        with _disk():
            partial.mkdir(exist_ok=True, mode=0o700)
            self._partial = partial / uuid.uuid4().hex
            self._file = self._partial.open("xb")
        self._digest = hashlib.sha256()
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises ``DigestMismatch`` as soon as they are more than announced."""
        self._written += len(chunk)
        if self._size is not None and self._written > self._size:
            raise DigestMismatch(f"More than the {self._size} bytes announced were sent.")
        with _disk():
            self._digest.update(chunk)
            self._file.write(chunk)

    def commit(self) -> None:
        """Make the object visible. Raises ``DigestMismatch`` or ``ObjectExists``."""
        if self._size is not None and self._written != self._size:
            raise DigestMismatch(f"{self._written} bytes were sent and {self._size} were announced.")
        if self._sha256 is not None and self._digest.hexdigest() != self._sha256:
            raise DigestMismatch("The SHA-256 of what was sent is not the one announced.")
        with _disk():
            self._file.flush()
            os.fsync(self._file.fileno())
            try:
                self._target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.link(self._partial, self._target)
            except (FileExistsError, NotADirectoryError):
                raise ObjectExists(f"There is an object at {self._uri} already.") from None

    def close(self) -> None:
        """Drop what was written beside the objects; a committed object stays."""
        self._file.close()
        with suppress(FileNotFoundError):
            self._partial.unlink()


def _path(uri: str) -> Path:
    if not uri.startswith("file:///"):
        raise ForeignUri("This is not the URI of a file on this machine.")
    path = unquote(uri.removeprefix("file://"), errors="surrogateescape")
    if ".." in path.split("/") or "\0" in path:
        raise ForeignUri("A URI must not climb out of its folder.")
    return Path(path)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        raise ForeignUri("This path leads nowhere.") from None


@contextmanager
def _disk() -> Generator[None]:
    """A disk that is full, gone or read-only is an outage; a name that is missing, taken or impossible is not."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise FileNotFoundError(error.errno, "There can be no file of such a long name.") from None
        if is_full(error):
            raise StoreFull("The disk of the object directory has no room left.") from error
        raise DependencyDown(
            f"The object directory does not work: {error.strerror or 'input/output error'}."
        ) from error
