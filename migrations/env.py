"""Alembic's entry point. The connection comes from ``config.attributes`` or from ``UNLEARN_DATABASE__URL``.

One process at a time: an advisory lock serialises those that start together. It is tried for, not waited for: a waiting
statement is an old snapshot, for which ``create index concurrently`` waits in turn. Each migration is a transaction of
its own with a short lock timeout, so that it never queues for long before (and so blocks) live traffic; it is tried
again a few times, and what was done before it stays.
"""

import os
import time

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from core.access import tables as _access
from core.certificates import tables as _certificates
from core.datasets import tables as _datasets
from core.deletions import tables as _deletions
from core.holds import tables as _holds
from core.opendsr import tables as _opendsr
from core.platform import outbox as _outbox
from core.platform.database import Base, open_engine
from core.policies import tables as _policies
from core.registry import tables as _registry
from core.runs import tables as _runs
from core.uploads import tables as _uploads
from core.webhooks import tables as _webhooks

TABLE_MODULES = (
    _access, _certificates, _datasets, _deletions, _holds, _opendsr, _outbox, _policies, _registry, _runs, _uploads,
    _webhooks,
)  # fmt: skip
_LOCK = 7_318_226_401
_LOCK_NOT_AVAILABLE = "55P03"


_TRIES = 5


def _migrate(connection: Connection) -> None:
    while not connection.execute(text("select pg_try_advisory_lock(:lock)"), {"lock": _LOCK}).scalar_one():
        connection.commit()
        time.sleep(0.1)
    connection.commit()
    lock_timeout_ms = int(context.config.attributes.get("lock_timeout_ms", 5000))
    try:
        connection.execute(text(f"set lock_timeout = {lock_timeout_ms}"))
        connection.commit()
        for left in reversed(range(_TRIES)):
            try:
                _run(connection)
                return
            except OperationalError as error:
                connection.rollback()
                if not left or getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise
    finally:
        connection.rollback()
        connection.execute(text("select pg_advisory_unlock(:lock)"), {"lock": _LOCK})
        connection.commit()


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    with open_engine(os.environ["UNLEARN_DATABASE__URL"]).connect() as own:
        _migrate(own)
