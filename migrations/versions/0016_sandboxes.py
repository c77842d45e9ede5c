"""workspaces of test keys, in which runs of one model may go on side by side

Revision: 0016, after 0015
"""

import sqlalchemy as sa
from alembic import op

from migrations.building import create_index_beside_traffic

revision = '0016'
down_revision = '0015'
branch_labels = None
depends_on = None

_ACTIVE = "mode = 'unlearn' and status in ('queued', 'preparing', 'assessing', 'unlearning', 'evaluating', 'publishing')"


def upgrade() -> None:
    # Indexes first: they end the transaction, and what comes after is done with the revision or not at all.
    create_index_beside_traffic('uq_runs_one_active_per_live_model', 'runs', ['model_id'], unique=True, postgresql_where=sa.text(f"{_ACTIVE} and not starts_with(workspace_id, 'wst_')"))
    create_index_beside_traffic('ix_deletion_requests_sandbox', 'deletion_requests', ['id'], unique=False, postgresql_where=sa.text("starts_with(workspace_id, 'wst_')"))
    op.add_column('workspaces', sa.Column('test_of', sa.String(), nullable=True))
    op.create_foreign_key(op.f('fk_workspaces_test_of'), 'workspaces', 'workspaces', ['test_of'], ['id'])
    op.create_unique_constraint(op.f('uq_workspaces_test_of'), 'workspaces', ['test_of'])
    op.drop_index('uq_runs_one_active_per_model', table_name='runs')


def downgrade() -> None:
    op.create_index('uq_runs_one_active_per_model', 'runs', ['model_id'], unique=True, postgresql_where=sa.text(_ACTIVE))
    op.drop_constraint(op.f('uq_workspaces_test_of'), 'workspaces', type_='unique')
    op.drop_constraint(op.f('fk_workspaces_test_of'), 'workspaces', type_='foreignkey')
    op.drop_column('workspaces', 'test_of')
    op.drop_index('ix_deletion_requests_sandbox', table_name='deletion_requests')
    op.drop_index('uq_runs_one_active_per_live_model', table_name='runs')
