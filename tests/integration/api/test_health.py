"""Health: each part is named, and one that is away shows."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from api.app import create_app
from core.platform.database import open_engine
from core.platform.errors import DependencyDown
from core.platform.objects import MemoryStore
from tests.builders.web import Web, settings, web

pytestmark = pytest.mark.integration


def test_the_process_answers_without_any_part() -> None:
    site = web(open_engine("postgresql://nobody@127.0.0.1:1/none"))
    assert site.get("/healthz").json() == {"status": "ok"}


def test_ready_when_every_part_answers(engine: Engine, redis_url: str) -> None:
    answer = web(engine, broker={"url": redis_url}).get("/readyz")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ready"
    assert set(answer.json()["parts"]) == {"database", "broker", "object_store"}


def test_a_broker_in_a_directory_is_looked_at(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a broker").mkdir()
    url = f"filesystem://{tmp_path}/a%20broker"
    assert web(engine, broker={"url": url}).get("/readyz").status_code == 200
    assert web(engine, broker={"url": f"filesystem://{tmp_path}/gone"}).get("/readyz").status_code == 503


def test_a_database_or_broker_that_is_away_is_named(redis_url: str) -> None:
    nowhere = open_engine("postgresql://nobody@127.0.0.1:1/none")
    answer = web(nowhere, broker={"url": "redis://127.0.0.1:1/0"}).get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    parts = {name: part["status"] for name, part in answer.json()["parts"].items()}
    assert parts == {"database": "down", "broker": "down", "object_store": "ok"}


def test_a_store_that_is_away_is_named(engine: Engine, redis_url: str) -> None:
    class Away(MemoryStore):
        def check(self) -> None:
            raise DependencyDown("The object store does not answer.")

    app = create_app(settings(broker={"url": redis_url}), engine, Away())
    answer = Web(app, engine).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["object_store"] == {"status": "down", "detail": "The object store does not answer."}
