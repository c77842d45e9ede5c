"""verdicts of runs, and scores of single records

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('runs', sa.Column('verdict', sa.String(), nullable=True))
    op.add_column('runs', sa.Column('verdict_reasons', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False))
    op.create_check_constraint(op.f('ck_runs_verdict'), 'runs', "verdict in ('passed', 'passed_with_warnings', 'failed', 'inconclusive')")
    op.create_table('run_scores',
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('record_id', sa.String(), nullable=False),
    sa.Column('row', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_run_scores_run_id')),
    sa.PrimaryKeyConstraint('run_id', 'record_id', name=op.f('pk_run_scores'))
    )


def downgrade() -> None:
    op.drop_table('run_scores')
    op.drop_constraint(op.f('ck_runs_verdict'), 'runs', type_='check')
    op.drop_column('runs', 'verdict_reasons')
    op.drop_column('runs', 'verdict')
