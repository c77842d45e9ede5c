"""Where a data set or a model version comes from: an upload, or files that lie somewhere already."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from sqlalchemy.orm import Session

from core.access.principal import Principal
from core.access.sandboxes import SUFFIX
from core.platform.errors import InvalidInput, Problem
from core.platform.objects import ForeignUri, ObjectStore, StoreRefused, relative_path
from core.unlearning.job import StoredFile
from core.uploads import service
from core.uploads.errors import SourceNotAllowed, SourceNotFound
from core.uploads.paths import path_problem

MOST_FILES: Final = 10_000
_POINTER: Final = "/source_uri"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as found; ``sha256`` is known of uploads only."""

    path: str
    uri: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A folder and its files in order of path."""

    uri: str
    files: tuple[SourceFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


def take(
    tx: Session,
    store: ObjectStore,
    *,
    caller: Principal,
    upload_id: str | None,
    source_uri: str | None,
    roots: Sequence[str],
    at: datetime,
) -> Source:
    """The files of an upload, which is then used up, or of a URI under one of ``roots``.

    Raises ``InvalidInput`` unless exactly one is given, ``SourceNotAllowed``, ``SourceNotFound``, and what
    ``uploads.use`` raises.
    """
    if (upload_id is None) == (source_uri is None):
        problem = Problem("", "one_source", "Give either upload_id or source_uri.")
        raise InvalidInput("Give either upload_id or source_uri, and not both.", [problem])
    if upload_id is not None:
        prefix, files = service.use(tx, workspace_id=caller.workspace_id, upload_id=upload_id, at=at)
        return _uploaded(prefix, files)
    return find(store, allowed(source_uri or "", store_root=store.root, roots=roots, workspace=caller.workspace))


def again(tx: Session, store: ObjectStore, uri: str) -> Source:
    """What was taken before, by the URI written down then. Raises ``SourceNotFound``."""
    files = service.used(tx, prefix_uri=uri)
    return _uploaded(uri, files) if files else find(store, uri)


def _uploaded(prefix: str, files: Sequence[StoredFile]) -> Source:
    found = [SourceFile(file.path, file.uri, file.size_bytes, file.sha256) for file in files]
    return Source(prefix, tuple(sorted(found, key=lambda file: file.path)))


def find(store: ObjectStore, uri: str) -> Source:
    """What lies at a URI: a folder, or one file. Raises ``SourceNotFound``."""
    try:
        if not uri.endswith("/") and store.size(uri) is None:
            uri = f"{uri}/"
        files = _files(store, uri)
    except (ForeignUri, StoreRefused, FileNotFoundError):
        raise _not_found("The source cannot be read.") from None
    if not files:
        raise _not_found("There are no files at the source.")
    if len(files) > MOST_FILES:
        raise _not_found(f"There are more than {MOST_FILES} files at the source.")
    for file in files:
        # Keys of S3 may hold '..', and names of files on a disk anything but a slash.
        if (wrong := path_problem(file.path)) is not None:
            raise _not_found(f"A file at the source has a name that is not taken. {wrong}")
    return Source(uri if uri.endswith("/") else f"{uri.rpartition('/')[0]}/", tuple(files))


def allowed(uri: str, *, store_root: str, roots: Sequence[str], workspace: str) -> str:
    """The URI in its canonical form. Raises ``SourceNotAllowed`` unless it lies under a root of this workspace.

    ``{workspace}`` in a root stands for the workspace's name. The service's own store is never a source: it holds
    everybody's files. A sandbox reads nothing from roots that all workspaces share.
    """
    wanted = _canonical(uri)
    scheme = store_root.partition(":")[0]
    if not wanted.startswith(f"{scheme}:"):
        raise _not_allowed(f"Sources of this service are {scheme}:// URIs.")
    folder = wanted if wanted.endswith("/") else f"{wanted}/"
    own = _canonical(store_root)
    if folder.startswith(own) or own.startswith(folder):
        raise _not_allowed("The service's own object store is not a source; upload the files instead.")
    is_sandbox = workspace.endswith(SUFFIX)
    places = [_root(root, workspace) for root in roots if "{workspace}" in root or not is_sandbox]
    if not any(folder.startswith(place) for place in places):
        where = f"only {' and '.join(places)} may be named" if places else "the operator has opened none; use an upload"
        raise _not_allowed(f"The source lies outside the places that are open to this workspace: {where}.")
    return wanted


def _root(root: str, workspace: str) -> str:
    canonical = _canonical(root.replace("{workspace}", workspace))
    return canonical if canonical.endswith("/") else f"{canonical}/"


def _canonical(uri: str) -> str:
    """``file:`` URIs are compared by decoded path, others letter by letter. Raises ``SourceNotAllowed``."""
    is_file = uri.startswith("file:///")
    path = unquote(uri.removeprefix("file://")) if is_file else uri.partition("://")[2]
    if not path or any(segment in ("..", ".") for segment in path.split("/")) or not path.isprintable():
        raise _not_allowed("A source is an absolute URI without '..' segments.")
    if is_file:
        ending = "/" if path.endswith("/") and path.strip("/") else ""
        return Path("/" + path.lstrip("/")).as_uri() + ending
    return uri


def _files(store: ObjectStore, uri: str) -> list[SourceFile]:
    if not uri.endswith("/"):
        return [SourceFile(relative_path(f"{uri.rpartition('/')[0]}/", uri), uri, store.size(uri) or 0)]
    listed = islice(store.list(uri), MOST_FILES + 1)
    return [SourceFile(relative_path(uri, info.uri), info.uri, info.size_bytes) for info in listed]


def _not_allowed(why: str) -> SourceNotAllowed:
    return SourceNotAllowed(why, [Problem(_POINTER, SourceNotAllowed.code, why)])


def _not_found(why: str) -> SourceNotFound:
    return SourceNotFound(why, [Problem(_POINTER, SourceNotFound.code, why)])
