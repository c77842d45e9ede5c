"""What the database is told about our connections, so that a dead or frozen process does not keep its locks."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core.platform.database import open_engine
from tests.builders.waiting import wait_until

pytestmark = pytest.mark.integration


def shown(engine: Engine, name: str) -> str:
    with engine.connect() as connection:
        return str(connection.execute(text(f"show {name}")).scalar_one())


def test_the_server_looks_whether_we_are_still_there_and_keeps_what_the_url_says(server_url: str) -> None:
    url = make_url(server_url).update_query_dict({"options": "-c lock_timeout=7s"})
    engine = open_engine(url.render_as_string(hide_password=False), idle_limit_s=2.5)
    names = ("client_connection_check_interval", "idle_in_transaction_session_timeout", "lock_timeout")
    assert [shown(engine, name) for name in names] == ["2s", "2500ms", "7s"]
    engine.dispose()


def test_the_ends_of_the_calendar_can_be_read_whatever_zone_the_database_is_in(server_url: str) -> None:
    for zone in ("Asia/Tokyo", "America/Los_Angeles"):
        url = make_url(server_url).update_query_dict({"options": f"-c timezone={zone}"})
        engine = open_engine(url.render_as_string(hide_password=False), pool_size=1)
        moments = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
        with engine.connect() as connection:
            read = [
                connection.execute(text("select cast(:at as timestamptz)"), {"at": at}).scalar_one() for at in moments
            ]
        assert read == moments
        engine.dispose()


def test_a_transaction_in_which_nothing_happens_gives_up_its_locks(engine: Engine) -> None:
    idle = open_engine(engine.url.render_as_string(hide_password=False), pool_size=1, idle_limit_s=0.2)
    locks = text("select count(*) from pg_locks where locktype = 'advisory' and objid = 815")

    def held() -> int:
        with engine.connect() as connection:
            return int(connection.execute(locks).scalar_one())

    with Session(idle) as tx:
        tx.execute(text("select pg_advisory_xact_lock(815)"))
        assert held() == 1
        wait_until(lambda: held() == 0, what="the end of the idle transaction")
        with pytest.raises(DBAPIError):
            tx.execute(text("select 1"))
    idle.dispose()
