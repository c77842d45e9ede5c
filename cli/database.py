"""The database as commands use it: one transaction, failures in words."""

from collections.abc import Generator
from contextlib import contextmanager

import sqlalchemy.exc
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from cli.output import Failed
from core.platform.database import open_engine, transaction
from core.platform.settings import Settings


@contextmanager
def opened(settings: Settings) -> Generator[Session]:
    """A transaction that commits when the block ends. Raises ``Failed`` when the database is away or has no schema."""
    with connected(settings) as engine, transaction(engine) as tx:
        yield tx


@contextmanager
def connected(settings: Settings) -> Generator[Engine]:
    """An engine for transactions of the caller's own. Raises ``Failed`` like ``opened``."""
    if settings.database.url is None:
        raise Failed("no database: resolve the settings first")
    engine = open_engine(settings.database.url.get_secret_value(), pool_size=1)
    try:
        yield engine
    except sqlalchemy.exc.ProgrammingError as error:
        raise Failed(f"{str(error.orig).splitlines()[0]}; is the schema up to date? unlearn migrate") from None
    except sqlalchemy.exc.OperationalError as error:
        raise Failed(f"the database does not answer: {str(error.orig).splitlines()[0]}") from None
    finally:
        engine.dispose()
