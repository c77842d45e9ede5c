"""Alembic's entry point. The connection comes from ``config.attributes`` or from ``UNLEARN_DATABASE__URL``.

One migration at a time: an advisory lock serialises processes that start together, and short lock timeouts keep a
migration from queueing behind (and so blocking) live traffic.
"""

import os

from alembic import context
from sqlalchemy import Connection, text

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


def _migrate(connection: Connection) -> None:
    connection.execute(text("select pg_advisory_lock(:lock)"), {"lock": _LOCK})
    connection.commit()
    try:
        connection.execute(text("set lock_timeout = '10s'"))
        connection.commit()
        context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=False)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    finally:
        connection.rollback()
        connection.execute(text("select pg_advisory_unlock(:lock)"), {"lock": _LOCK})
        connection.commit()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    with open_engine(os.environ["UNLEARN_DATABASE__URL"]).connect() as own:
        _migrate(own)
