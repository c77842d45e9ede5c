"""indexes of what has not ended: for counting it, and for quotas

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

from migrations.building import create_index_beside_traffic

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_beside_traffic('ix_deletion_requests_open', 'deletion_requests', ['workspace_id', 'due_at'], postgresql_where=sa.text("status in ('pending', 'in_progress', 'needs_review')"))
    create_index_beside_traffic('ix_runs_open', 'runs', ['mode', 'status'], postgresql_where=sa.text("status in ('queued', 'preparing', 'assessing', 'unlearning', 'evaluating', 'publishing', 'needs_review')"))


def downgrade() -> None:
    op.drop_index('ix_runs_open', table_name='runs')
    op.drop_index('ix_deletion_requests_open', table_name='deletion_requests')
