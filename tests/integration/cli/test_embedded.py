"""The embedded default on the real wheel: started, joined, stopped with its last user, found again."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import inspect, text

from core.platform import embedded
from core.platform.database import open_engine
from core.platform.settings import Settings
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.integration

JOIN = """
import sys
from pathlib import Path
from core.platform import embedded
from core.platform.settings import Settings
print(embedded.resolve(Settings(data_dir=Path(sys.argv[1]))).database.url.get_secret_value(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("e") / ".data"
    yield folder
    embedded.release(folder)


@pytest.fixture
def other_process() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(home: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", JOIN, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.communicate()


def _url(settings: Settings) -> str:
    assert settings.database.url is not None
    return settings.database.url.get_secret_value()


def _execute(url: str, statement: str) -> object:
    engine = open_engine(url, pool_size=1)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return result.scalar_one() if result.returns_rows else None
    finally:
        engine.dispose()


def _server(home: Path) -> psutil.Process | None:
    file = home / "postgres" / "postmaster.pid"
    if not file.exists():
        return None
    try:
        return psutil.Process(int(file.read_text().split("\n", 1)[0]))
    except psutil.NoSuchProcess:
        return None


def test_everything_unset_is_filled_in_and_kept_private(home: Path) -> None:
    settings = embedded.resolve(Settings(data_dir=home))
    assert _execute(_url(settings), "select 1") == 1
    assert settings.broker.url is not None
    assert settings.broker.url.get_secret_value() == f"filesystem://{home.resolve()}/broker"
    assert settings.store.url == (home.resolve() / "objects").as_uri()
    assert settings.sources.roots == (f"{(home.resolve() / 'imports').as_uri()}/{{workspace}}/",)
    assert settings.secret is not None
    assert len(settings.secret.get_secret_value()) >= 32
    assert (home / "secret").stat().st_mode & 0o777 == 0o600
    for folder in ("broker", "objects", "imports", "postgres"):
        assert (home / folder).stat().st_mode & 0o077 == 0


def test_what_was_named_stays(home: Path) -> None:
    given = Settings.model_validate(
        {
            "data_dir": home,
            "secret": "0123456789-0123456789-0123456789-x",
            "broker": {"url": "redis://host/0"},
            "store": {"url": "s3://bucket/"},
        }
    )
    settings = embedded.resolve(given)
    assert (settings.secret, settings.broker, settings.store) == (given.secret, given.broker, given.store)
    assert settings.sources.roots == ()
    assert not (home / "secret").exists()


def test_resolving_again_changes_nothing(home: Path) -> None:
    once = embedded.resolve(Settings(data_dir=home))
    assert embedded.resolve(once) == once
    assert embedded.resolve(Settings(data_dir=home)) == once


def test_data_and_secret_survive_a_stop(home: Path) -> None:
    before = embedded.resolve(Settings(data_dir=home))
    _execute(_url(before), "create table kept as select 42 as answer")
    embedded.release(home)
    assert _server(home) is None
    after = embedded.resolve(Settings(data_dir=home))
    assert _execute(_url(after), "select answer from kept") == 42
    assert after.secret == before.secret


def test_the_last_process_to_leave_stops_the_server(
    home: Path, other_process: Callable[[Path], subprocess.Popen[str]]
) -> None:
    url = _url(embedded.resolve(Settings(data_dir=home)))
    other = other_process(home)
    assert other.stdout is not None
    assert other.stdout.readline().strip() == url
    embedded.release(home)
    server = _server(home)
    assert server is not None, "the server stopped although another process uses it"
    other.communicate()
    wait_until(lambda: not server.is_running(), what="the server's end")


def test_a_killed_process_does_not_keep_the_server_running(
    home: Path, other_process: Callable[[Path], subprocess.Popen[str]]
) -> None:
    other = other_process(home)
    assert other.stdout is not None
    assert other.stdout.readline()
    embedded.resolve(Settings(data_dir=home))
    other.kill()
    other.wait()
    server = _server(home)
    assert server is not None
    embedded.release(home)
    wait_until(lambda: not server.is_running(), what="the server's end")


def test_a_killed_server_is_started_again(home: Path) -> None:
    url = _url(embedded.resolve(Settings(data_dir=home)))
    _execute(url, "create table kept as select 42 as answer")
    server = _server(home)
    assert server is not None
    for process in [server, *server.children(recursive=True)]:
        process.kill()
    psutil.wait_procs([server])
    embedded.release(home)
    assert _execute(_url(embedded.resolve(Settings(data_dir=home))), "select answer from kept") == 42


def test_an_interrupted_first_start_leaves_nothing_that_hinders_the_next(home: Path) -> None:
    (home / "postgres.new").mkdir(parents=True)
    (home / "postgres.new" / "PG_VERSION").write_text("18\n")
    (home / "postgres.new" / "postmaster.pid").write_text("-4711\nhalf\n")
    assert _execute(_url(embedded.resolve(Settings(data_dir=home))), "select 1") == 1
    assert not (home / "postgres.new").exists()


def test_a_process_id_that_now_belongs_to_another_program_is_not_believed(home: Path) -> None:
    embedded.resolve(Settings(data_dir=home))
    file = home / "postgres" / "postmaster.pid"
    lines = file.read_text().splitlines()
    embedded.release(home)
    file.write_text("\n".join([str(psutil.Process().pid), *lines[1:]]) + "\n")
    assert _execute(_url(embedded.resolve(Settings(data_dir=home))), "select 1") == 1


def test_processes_that_start_together_share_one_server_and_one_secret(
    home: Path, other_process: Callable[[Path], subprocess.Popen[str]]
) -> None:
    processes = [other_process(home) for _ in range(4)]
    urls = {process.stdout.readline().strip() for process in processes if process.stdout}
    assert urls == {f"postgresql://postgres@/postgres?host={home.resolve()}/postgres"}
    assert (home / "secret").read_text().count("\n") == 1


def test_migrations_run_once_and_again(home: Path) -> None:
    settings = embedded.resolve(Settings(data_dir=home))
    embedded.migrate(settings)
    embedded.migrate(settings)
    engine = open_engine(_url(settings), pool_size=1)
    assert {"workspaces", "runs", "outbox"} <= set(inspect(engine).get_table_names())
    engine.dispose()
