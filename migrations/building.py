"""What migrations of a database at work need more than once."""

from typing import Any

from alembic import op
from sqlalchemy import text


def create_index_beside_traffic(name: str, table: str, columns: list[str], **options: Any) -> None:
    """Build an index without stopping writers. One that an interrupted try has left behind, unusable, is dropped first.

    It waits for transactions that are older than itself, however long they last, and holds up nobody meanwhile.
    """
    with op.get_context().autocommit_block():
        patience = op.get_bind().execute(text("show lock_timeout")).scalar_one()
        op.execute("set lock_timeout = 0")
        op.execute(f'drop index concurrently if exists "{name}"')
        op.create_index(name, table, columns, postgresql_concurrently=True, **options)
        op.execute(f"set lock_timeout = '{patience}'")
