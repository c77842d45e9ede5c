"""keys of the runs' checkpoints

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('runs', sa.Column('checkpoint_key', sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column('runs', 'checkpoint_key')
