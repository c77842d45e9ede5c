"""What an earlier release has written is there after the migrations, and the present code goes on with it.

``<revision>.sql.gz`` is the database of a release after its demo, with a key made besides:

    unlearn demo --data-dir d && UNLEARN_DATA_DIR=d unlearn keys create --workspace <its name> --scopes '*'
    pg_dump --no-owner --no-privileges --inserts --rows-per-insert=50 <its database> | gzip -9n > <revision>.sql.gz
"""

import gzip
import os
import subprocess
import sys
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic import command
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from api.app import create_app
from core.access import audit
from core.access.service import workspace_named
from core.certificates.verifying import verify
from core.platform import embedded
from core.platform.database import open_engine, transaction
from core.platform.objects import MemoryStore
from core.platform.settings import Settings
from tests.builders.web import Web


@dataclass(frozen=True)
class Release:
    """An earlier release, by its newest migration, and what its customer holds."""

    revision: str
    secret: str
    key: str


RELEASES = (
    Release(
        "0010",
        "dpgts8MsZxxIfsrdHOIW-GCUSJf8xFNPdTIDqiBIN3E1uUm259MapbR4jUylHQCW",
        "unl_live_01m8d714fde4f87c3hj2hccy9z_QDC0IR-ol3ZxQkP5cqrtnF0r8ZB-bGSTIQz160OuoFo",
    ),
)


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: release.revision)
def release(request: pytest.FixtureRequest) -> Release:
    return request.param


@contextmanager
def database_of(release: Release, server_url: str) -> Generator[Engine]:
    """The release's database as it was."""
    name = f"release_{uuid.uuid4().hex[:12]}"
    server = open_engine(server_url, pool_size=1)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name}"))
        engine = open_engine(make_url(server_url).set(database=name).render_as_string(hide_password=False), pool_size=2)
        _load(engine, Path(__file__).with_name(f"{release.revision}.sql.gz"))
        yield engine
        engine.dispose()
        connection.execute(text(f"drop database {name} with (force)"))
    server.dispose()


@pytest.fixture(scope="module")
def upgraded(release: Release, server_url: str) -> Iterator[Engine]:
    """The release's database, brought to the present schema."""
    with database_of(release, server_url) as engine:
        upgrade(engine)
        yield engine


def upgrade(engine: Engine, *, lock_timeout_ms: int = 5000) -> None:
    config = embedded.migrations_config()
    config.attributes["lock_timeout_ms"] = lock_timeout_ms
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _load(engine: Engine, dump: Path) -> None:
    lines = gzip.decompress(dump.read_bytes()).decode().splitlines(keepends=True)
    statements = "".join(line for line in lines if not line.startswith("\\"))  # psql's own commands
    raw = engine.raw_connection()
    raw.cursor().execute(statements)
    raw.commit()
    raw.invalidate()  # the dump empties the connection's search path


@pytest.fixture
def customer(release: Release, upgraded: Engine) -> Web:
    """The customer of the release, with the key of then, on the present application."""
    settings = Settings.model_validate({"secret": release.secret, "log_level": "error"})
    return Web(create_app(settings, upgraded, MemoryStore()), upgraded).with_key(release.key)


def test_what_was_asked_and_done_is_still_told(customer: Web) -> None:
    (request,) = customer.get("/v1/deletion-requests?status=completed").json()["data"]
    assert (request["status"], request["record_count"]) == ("completed", 22)
    run = customer.get(f"/v1/runs/{request['run_ids'][0]}").json()
    assert (run["status"], run["published_version"]) == ("succeeded", 2)
    assert customer.get(f"/v1/runs/{run['id']}/steps").json()["data"][-1]["step"] == run["progress"]["step"]
    version = customer.get("/v1/models/digits-classifier/versions/latest").json()
    assert (version["version"], version["parent_version"], version["run_id"]) == (2, 1, run["id"])
    assert customer.get("/v1/reports/compliance").status_code == 200


def test_certificates_of_then_hold_with_the_keys_of_now(customer: Web) -> None:
    (request,) = customer.get("/v1/deletion-requests?status=completed").json()["data"]
    certificate = customer.get(f"/v1/certificates/{request['certificate_ids'][0]}")
    keys = customer.get("/.well-known/jwks.json").json()
    assert verify(certificate.text, keys).claims.kind == "certificate"


def test_the_audit_chain_goes_on_unbroken(customer: Web) -> None:
    body = {"model": "digits-classifier", "subject_ids": ["writer-00"], "reason": "gdpr_art_17"}
    answer = customer.post("/v1/deletion-requests", body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["record_count"] > 0
    with transaction(customer.engine) as tx:
        workspace = workspace_named(tx, "demo-mq2hvdj2")
        assert audit.first_broken_line(tx, workspace.id) is None


def revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    return ScriptDirectory.from_config(embedded.migrations_config()).get_current_head()


def test_a_migration_gives_way_to_traffic_and_can_be_repeated(server_url: str) -> None:
    """A transaction that reads must not be queued behind: writers would wait with it."""
    with database_of(RELEASES[-1], server_url) as engine:
        with engine.connect() as reader:
            reader.execute(text("select count(*) from deletion_requests"))  # and stays open
            with pytest.raises(OperationalError, match="lock timeout"):
                upgrade(engine, lock_timeout_ms=50)
            with engine.begin() as writer:
                writer.execute(text("update deletion_requests set status_detail = status_detail"))
        assert revision(engine) != newest()
        upgrade(engine)
        assert revision(engine) == newest()


def test_processes_that_migrate_together_wait_for_each_other(server_url: str) -> None:
    with database_of(RELEASES[-1], server_url) as engine:
        url = engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
        environment = {**os.environ, "UNLEARN_DATABASE__URL": url}
        code = "from alembic import command; from core.platform import embedded; "
        code += "command.upgrade(embedded.migrations_config(), 'head')"
        processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
        assert revision(engine) == newest()
