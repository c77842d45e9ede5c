"""``unlearn backup``: the database and the object store in one folder, and back again.

The database is dumped first and the objects are copied after it: an object that no row knows is swept away later, while
a row without its object would be a version that nobody can load. PostgreSQL's own ``pg_dump`` and ``pg_restore`` do
their part; objects are copied with size and SHA-256 checked both ways. ``backup.json`` is written last, so a folder
without it is no backup.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import sqlalchemy.exc
import typer
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, make_url, text

from cli import environment
from cli.output import Failed, console
from core.platform.clock import rfc3339, utc_now
from core.platform.database import open_engine
from core.platform.objects import ObjectStore, open_store
from core.platform.objects.port import relative_path
from core.platform.objects.transfer import digest_stream, fetch
from core.platform.settings import Settings
from core.platform.version import code

FORMAT: Final = "unlearning-backup/1"
_DUMP: Final = "database.dump"
_OBJECTS: Final = "objects"
_LIST: Final = "objects.jsonl"
_COVER: Final = "backup.json"

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.")]

app = typer.Typer(no_args_is_help=True, help="Back up database and object store, and restore them.")


@dataclass(frozen=True, slots=True)
class Cover:
    """What ``backup.json`` says. ``root``: where the objects were, and must be again, since rows name them by it."""

    format: str
    made_at: str
    code: Mapping[str, object]
    schema: str
    root: str
    objects: int
    dump_sha256: str
    list_sha256: str


@dataclass(frozen=True, slots=True)
class Copied:
    """A line of ``objects.jsonl``. ``path`` is relative to the store's root."""

    path: str
    size_bytes: int
    sha256: str


@app.command()
def create(folder: Folder) -> None:
    """Write a backup into a folder that is new or empty. The service may go on meanwhile."""
    cover = write_backup(environment.resolved(), folder)
    console.print(f"{cover.objects} objects and the database (schema {cover.schema}) are in {folder}.", soft_wrap=True)
    console.print("Keep UNLEARN_SECRET apart from it: without the secret, webhook and signing keys cannot be read.")


@app.command()
def verify(folder: Folder) -> None:
    """Check every file of a backup against its digest."""
    cover = read_cover(folder)
    check_files(folder, cover)
    console.print(f"The backup of {cover.made_at} is whole: {cover.objects} objects, schema {cover.schema}.")


@app.command()
def restore(folder: Folder) -> None:
    """Bring a backup into an empty database and a store at the same address. Then: unlearn migrate."""
    cover = read_backup(environment.resolved(), folder)
    console.print(f"Restored the state of {cover.made_at}. Bring it to this code's schema with: unlearn migrate")
    console.print("Deletion requests that came after it are not in it: submit them again before anything is served.")


def write_backup(settings: Settings, folder: Path) -> Cover:
    """Dump the database, copy the objects, write the cover. Raises ``Failed`` and then leaves no cover."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise Failed(f"{folder} is not empty; name a new folder")
    store = open_store(settings)
    schema = _dump(settings, folder / _DUMP)
    objects = _copy_objects(store, folder)
    cover = Cover(
        FORMAT, rfc3339(utc_now()), dict(code(settings.commit)), schema, store.root, objects,
        _sha256(folder / _DUMP), _sha256(folder / _LIST),
    )  # fmt: skip
    (folder / _COVER).write_text(json.dumps(asdict(cover), indent=2) + "\n")
    return cover


def read_backup(settings: Settings, folder: Path) -> Cover:
    """Objects first, then the database in one transaction. Raises ``Failed``; what went wrong can be begun again."""
    cover = read_cover(folder)
    store = open_store(settings)
    if store.root != cover.root:
        raise Failed(f"the backup is of {cover.root}, by which rows name their files, and this store is {store.root}")
    check_files(folder, cover)
    with _connection(settings) as connection:
        if inspect(connection).get_table_names():
            raise Failed("the database is not empty; restore into a new one")
        tool = _tool(connection, "pg_restore")
    for copied in _listed(folder):
        uri = store.uri(copied.path)
        if store.size(uri) != copied.size_bytes:
            store.put_file(uri, folder / _OBJECTS / copied.path)
    _run(settings, [tool, "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"], folder / _DUMP)
    return cover


def read_cover(folder: Path) -> Cover:
    """The cover. Raises ``Failed`` when there is none, or one of another format."""
    try:
        cover = Cover(**json.loads((folder / _COVER).read_text()))
    except FileNotFoundError:
        raise Failed(f"{folder} holds no finished backup: {_COVER} is missing") from None
    except (ValueError, TypeError):
        raise Failed(f"{folder / _COVER} cannot be read") from None
    if cover.format != FORMAT:
        raise Failed(f"this code reads {FORMAT}, and the backup is {cover.format}")
    return cover


def check_files(folder: Path, cover: Cover) -> None:
    """Raises ``Failed``, naming the first file that is missing or is not what was written."""
    for name, expected in ((_DUMP, cover.dump_sha256), (_LIST, cover.list_sha256)):
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            raise Failed(f"{name} is not what was written")
    count = 0
    for copied in _listed(folder):
        file = folder / _OBJECTS / copied.path
        if not file.is_file() or _sha256(file) != copied.sha256:
            raise Failed(f"{_OBJECTS}/{copied.path} is not what was written")
        count += 1
    if count != cover.objects:
        raise Failed(f"{_LIST} names {count} objects, the cover {cover.objects}")


def _dump(settings: Settings, target: Path) -> str:
    with _connection(settings) as connection:
        schema = MigrationContext.configure(connection).get_current_revision()
        tool = _tool(connection, "pg_dump")
    if schema is None:
        raise Failed("the database has no schema; there is nothing to back up")
    _run(settings, [tool, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}"])
    return schema


def _copy_objects(store: ObjectStore, folder: Path) -> int:
    count = 0
    with (folder / _LIST).open("w") as listing:
        for info in store.list(store.root):
            path = relative_path(store.root, info.uri)
            target = folder / _OBJECTS / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                size, sha256 = fetch(store, info.uri, target)
            except FileNotFoundError:  # purged since it was listed
                target.unlink(missing_ok=True)
                continue
            listing.write(json.dumps(asdict(Copied(path, size, sha256))) + "\n")
            count += 1
    return count


def _listed(folder: Path) -> Iterator[Copied]:
    with (folder / _LIST).open() as listing:
        for line in listing:
            yield Copied(**json.loads(line))


@contextmanager
def _connection(settings: Settings) -> Generator[Connection]:
    assert settings.database.url is not None  # noqa: S101  # resolved
    engine = open_engine(settings.database.url.get_secret_value(), pool_size=1)
    try:
        with engine.connect() as connection:
            yield connection
    except sqlalchemy.exc.OperationalError as error:
        raise Failed(f"the database does not answer: {str(error.orig).splitlines()[0]}") from None
    finally:
        engine.dispose()


def _tool(connection: Connection, name: str) -> str:
    """The server's own, when it runs on this machine, since its version is right; otherwise that on the path."""
    try:
        folder = connection.execute(text("select setting from pg_config where name = 'BINDIR'")).scalar()
    except sqlalchemy.exc.ProgrammingError:  # only superusers may ask
        folder = None
    own = Path(folder) / name if folder else None
    found = str(own) if own is not None and own.exists() else shutil.which(name)
    if found is None:
        raise Failed(f"{name} is not installed (Debian: apt install postgresql-client)")
    return found


def _run(settings: Settings, command: Sequence[str], *files: Path) -> None:
    assert settings.database.url is not None  # noqa: S101  # resolved
    url = make_url(settings.database.url.get_secret_value())
    # The password goes by the environment: arguments are in every list of processes.
    secret = {"PGPASSWORD": str(url.password)} if url.password else {}
    address = url.set(password=None).render_as_string()
    try:
        subprocess.run(  # noqa: S603
            [*command, f"--dbname={address}", *map(str, files)],
            env={**os.environ, **secret},
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        words = (error.stderr or "").strip().splitlines()
        raise Failed(f"{Path(command[0]).name} failed: {words[0] if words else error.returncode}") from None


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return digest_stream(content)[1]
