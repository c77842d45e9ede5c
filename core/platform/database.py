"""Engine, declarative base and the transaction every service runs in. Synchronous by design."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, cast

from sqlalchemy import DateTime, Engine, MetaData, Row, Table, create_engine, text
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Session

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Rows of the service. ``dict`` maps to JSONB, ``datetime`` to ``timestamptz``."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        list[str]: JSONB,
        list[int]: JSONB,
        datetime: DateTime(timezone=True),
    }


def open_engine(url: str, *, pool_size: int = 10, idle_limit_s: float | None = None) -> Engine:
    """An engine on ``url`` (``postgresql://…``); connections are checked, so a restarted server is survived.

    idle_limit_s: the server ends a transaction in which nothing has come from us for so long, and with it its locks. A
    process that was stopped in the middle of one, or whose host is gone, then does not hold up the others.
    """
    driver_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    given = str(make_url(driver_url).query.get("options", ""))
    # Server side, so that the wait of a killed process for a lock ends, and with it the locks that it has.
    # In another zone moments near the ends of the calendar could be written and never be read again.
    options = f"{given} -c client_connection_check_interval=2s -c timezone=UTC"
    if idle_limit_s is not None:
        options += f" -c idle_in_transaction_session_timeout={idle_limit_s:g}s"
    return create_engine(
        driver_url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,  # they name people and records, and errors are logged
        connect_args={"connect_timeout": 5, "application_name": "unlearn", "options": options},
    )


@contextmanager
def transaction(engine: Engine) -> Generator[Session]:
    """A session that commits when the block ends and rolls back when it raises: the one commit point of loops."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


Columns = Row[*tuple[Any, ...]]
"""What a statement on a table gives, by the columns' names."""


def table_of(rows: type[Base]) -> Table:
    """For statements past the session, which cost a third less: they give columns and take no notice of its objects.

    What is pending in the session is not flushed first.
    """
    return cast("Table", rows.__table__)


def inserting(rows: type[Base]) -> Insert:
    """For rows that nothing reads again in their transaction: see ``table_of``. Parameters go by the columns' names."""
    return insert(table_of(rows))


def database_now(tx: Session) -> datetime:
    """The database's clock (transaction start), by which leases and schedules go."""
    return tx.execute(text("select now()")).scalar_one()
