"""records of hardness assessments

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('run_records',
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('record_id', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_records_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'record_id', name=op.f('pk_run_records'))
    )


def downgrade() -> None:
    op.drop_table('run_records')
