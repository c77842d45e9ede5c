"""the trace in which a deletion request was accepted

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('deletion_requests', sa.Column('traceparent', sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column('deletion_requests', 'traceparent')
