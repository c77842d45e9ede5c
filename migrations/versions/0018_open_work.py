"""indexes of what has not ended: for counting it, and for quotas

Revision: 0018, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = '0018'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index('ix_deletion_requests_open', 'deletion_requests', ['workspace_id', 'due_at'], unique=False, postgresql_where=sa.text("status in ('pending', 'in_progress', 'needs_review')"))
    op.create_index('ix_runs_open', 'runs', ['mode', 'status'], unique=False, postgresql_where=sa.text("status in ('queued', 'preparing', 'assessing', 'unlearning', 'evaluating', 'publishing', 'needs_review')"))


def downgrade() -> None:
    op.drop_index('ix_runs_open', table_name='runs')
    op.drop_index('ix_deletion_requests_open', table_name='deletion_requests')
