"""A backup brings back every row and every object, and says when it is not whole."""

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, make_url, text

from cli.backups import read_backup, read_cover, write_backup
from cli.output import Failed
from core.access import audit
from core.platform.database import open_engine, transaction
from core.platform.objects import ObjectStore, open_store
from core.platform.settings import Settings, StoreSettings
from tests.builders.estate import Estate, estate

pytestmark = pytest.mark.integration

SECRET = "a-secret-of-tests-with-more-than-32-characters"
OBJECTS = {"uploads/a/train set.parquet": b"rows", "models/digits/v1/model.safetensors": b"weights" * 1000}


@pytest.fixture
def lived_in(database: Engine, s3: StoreSettings) -> tuple[Settings, Estate]:
    """A service with a request and some objects."""
    settings = settings_on(database.url.render_as_string(hide_password=False), s3)
    with transaction(database) as tx:
        place = estate(tx)
        place.submit(tx, "r-0", external_id="PRIV-1")
    store = open_store(settings)
    for key, content in OBJECTS.items():
        store.put_bytes(store.uri(key), content)
    return settings, place


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """A database without a schema."""
    name = f"restored_{uuid.uuid4().hex[:12]}"
    server = open_engine(server_url, pool_size=1)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name}"))
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"drop database {name} with (force)"))
    server.dispose()


def settings_on(url: str, s3: StoreSettings) -> Settings:
    given: dict[str, Any] = {"secret": SECRET, "database": {"url": url.replace("+psycopg", "")}, "store": s3}
    return Settings.model_validate(given)


def rows(url: str) -> dict[str, Any]:
    """Every table's rows as text."""
    engine = open_engine(url)
    with engine.connect() as connection:
        found = {
            table: sorted(connection.scalars(text(f'select t::text from "{table}" t')))  # noqa: S608
            for table in inspect(connection).get_table_names()
        }
    engine.dispose()
    return found


def objects(store: ObjectStore) -> dict[str, str]:
    content: dict[str, str] = {}
    for info in store.list(store.root):
        with store.open(info.uri) as stream:
            content[info.uri] = hashlib.sha256(stream.read()).hexdigest()
    return content


def test_everything_comes_back(
    lived_in: tuple[Settings, Estate], empty_url: str, s3: StoreSettings, tmp_path: Path
) -> None:
    settings, place = lived_in
    assert settings.database.url is not None
    before, store = rows(settings.database.url.get_secret_value()), open_store(settings)
    kept = objects(store)
    assert write_backup(settings, tmp_path / "backup").objects == len(OBJECTS)
    store.delete(list(kept))
    assert not objects(store)

    restored = settings_on(empty_url, s3)
    read_backup(restored, tmp_path / "backup")
    assert rows(empty_url) == before
    assert objects(store) == kept
    engine = open_engine(empty_url)
    with transaction(engine) as tx:
        assert audit.first_broken_line(tx, place.workspace_id) is None
        place.submit(tx, "r-1", external_id="PRIV-2")  # sequences go on where they were
    engine.dispose()
    with pytest.raises(Failed, match="not empty"):
        read_backup(restored, tmp_path / "backup")


def test_a_backup_that_is_not_whole_is_refused(lived_in: tuple[Settings, Estate], tmp_path: Path) -> None:
    settings, _ = lived_in
    folder = tmp_path / "backup"
    write_backup(settings, folder)
    for name in ("database.dump", "objects.jsonl", f"objects/{next(iter(OBJECTS))}"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1])
        with pytest.raises(Failed, match=name.split("/")[-1]):
            read_backup(settings, folder)
        (folder / name).write_bytes(content)
    (folder / "backup.json").unlink()
    with pytest.raises(Failed, match="no finished backup"):
        read_cover(folder)


def test_a_store_at_another_address_is_refused(
    lived_in: tuple[Settings, Estate], empty_url: str, s3: StoreSettings, tmp_path: Path
) -> None:
    write_backup(lived_in[0], tmp_path / "backup")
    elsewhere = settings_on(empty_url, s3.model_copy(update={"url": f"{s3.url}-other"}))
    with pytest.raises(Failed, match="by which rows name their files"):
        read_backup(elsewhere, tmp_path / "backup")


def test_a_folder_in_use_is_not_written_to(lived_in: tuple[Settings, Estate], tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(Failed, match="not empty"):
        write_backup(lived_in[0], tmp_path)
