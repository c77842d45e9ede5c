"""records updated in place

No index holds a record's state any more and pages keep some room, so that a change of state writes the row only and no
index entry (heap-only tuples). Which records are not active is known from the deletion requests that cover them.

Revision: 0015, after 0014
"""

import sqlalchemy as sa
from alembic import op

revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index('ix_records_not_active', table_name='records', postgresql_where=sa.text("state <> 'active'"))
    op.execute('alter table records set (fillfactor = 90)')


def downgrade() -> None:
    op.execute('alter table records reset (fillfactor)')
    op.create_index('ix_records_not_active', 'records', ['dataset_id', 'state'], unique=False, postgresql_where=sa.text("state <> 'active'"))
