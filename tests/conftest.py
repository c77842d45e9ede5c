"""Real parts for tests: Postgres built by the migrations, Redis, and a server that speaks S3's wire protocol.

Each is started on first use and ended with the session, unless the environment names one that runs already:
``UNLEARN_TEST_DATABASE_URL`` (a superuser's URL) and ``UNLEARN_TEST_REDIS_URL``.
"""

import os
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from core.platform import embedded
from core.platform.database import open_engine
from core.platform.settings import Settings, StoreSettings
from tests.builders.servers import Postgres, Redis, S3Server, fresh_bucket
from tests.builders.service import Service

if TYPE_CHECKING:
    from tests.builders.built import Built

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve the other processes of a test
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores are shared with the other half of the tests


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share the running service stay together, so that it is started once."""
    for item in items:
        if _needs_service(item):
            item.add_marker(pytest.mark.xdist_group("service"))


_LAST = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Note whether the test is the last one for now that needs the running service; see ``service``."""
    item.stash[_LAST] = not _needs_service(nextitem)


def _needs_service(item: pytest.Item | None) -> bool:
    return "_service" in getattr(item, "fixturenames", ())  # some tests call a fixture of their own "service"


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A Postgres server on which databases may be created."""
    given = os.environ.get("UNLEARN_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with Postgres() as server:
        yield server.url


def _on_server(server_url: str, statement: str) -> None:
    engine = open_engine(server_url, pool_size=1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def _named(server_url: str, database: str) -> str:
    return make_url(server_url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def template_url(server_url: str) -> Iterator[str]:
    """A migrated, empty database that others are copied from."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    _on_server(server_url, f"create database {name}")
    url = _named(server_url, name)
    embedded.migrate(Settings.model_validate({"database": {"url": url}}))
    yield url
    _drop(server_url, url)


def _copy(server_url: str, template_url: str) -> str:
    name = f"test_{uuid.uuid4().hex[:12]}"
    _on_server(server_url, f"create database {name} template {make_url(template_url).database}")
    return _named(server_url, name)


def _drop(server_url: str, url: str) -> None:
    _on_server(server_url, f"drop database if exists {make_url(url).database} with (force)")


@pytest.fixture(scope="session")
def engine(server_url: str, template_url: str) -> Iterator[Engine]:
    """A migrated database that tests share and leave as they found it (see ``tx``)."""
    url = _copy(server_url, template_url)
    engine = open_engine(url)
    yield engine
    engine.dispose()
    _drop(server_url, url)


@pytest.fixture
def tx(engine: Engine) -> Iterator[Session]:
    """A session in a transaction that is rolled back when the test ends."""
    with engine.connect() as connection, connection.begin() as outer:
        with Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint") as session:
            yield session
        outer.rollback()


@pytest.fixture
def database_url(server_url: str, template_url: str) -> Iterator[str]:
    """A fresh migrated database of the test's own."""
    url = _copy(server_url, template_url)
    yield url
    _drop(server_url, url)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """An engine on a fresh migrated database, for tests that commit."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def _reused(server_url: str, template_url: str) -> Iterator[Engine]:
    url = _copy(server_url, template_url)
    engine = open_engine(url)
    yield engine
    engine.dispose()
    _drop(server_url, url)


@pytest.fixture
def emptied(_reused: Engine) -> Engine:
    """A migrated database without rows, for tests that commit: cheaper than ``database``, which is made afresh."""
    with _reused.begin() as connection:
        connection.execute(text("set local session_replication_role = replica"))  # in any order, whoever refers to it
        tables = "select tablename from pg_tables where schemaname = 'public' and tablename <> 'alembic_version'"
        for (table,) in connection.execute(text(tables)).all():
            connection.execute(text(f'delete from "{table}"'))  # noqa: S608
    return _reused


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server."""
    given = os.environ.get("UNLEARN_TEST_REDIS_URL")
    if given:
        yield given
        return
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server that speaks the S3 wire protocol."""
    with S3Server() as server:
        yield server.url


@pytest.fixture
def s3(s3_endpoint: str) -> StoreSettings:
    """Settings of a fresh bucket on a real S3 wire-protocol server."""
    return fresh_bucket(s3_endpoint)


@pytest.fixture(scope="session")
def _service(
    server_url: str, template_url: str, redis_url: str, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    database_url = _copy(server_url, template_url)
    bucket = fresh_bucket(s3_endpoint)
    broker_url = redis_url.rsplit("/", 1)[0] + "/1"  # its worker must not answer other tests' doorbells
    with Service(database_url, broker_url, bucket, tmp_path_factory.mktemp("service")) as running:
        yield running
    _drop(server_url, database_url)


@pytest.fixture
def service(_service: Service, request: pytest.FixtureRequest) -> Iterator[Service]:
    """The whole service as real processes, shared by the tests that need it; each takes a workspace of its own.

    It rests while tests run that do not need it.
    """
    _service.go_on()
    yield _service
    if request.node.stash[_LAST]:
        _service.rest()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> "Built":
    """A small image classifier that has learnt its digits by heart."""
    from tests.builders.models import digits_classifier  # torch takes seconds to load; most tests do without

    return digits_classifier(tmp_path_factory.mktemp("digits"), seed=0)
