"""clocks of deletion requests, why they wait, and the order in which runs are claimed

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

_OPEN = "status in ('pending', 'in_progress', 'needs_review')"


def upgrade() -> None:
    for column in (
        sa.Column('regulation', sa.String(), nullable=True),
        sa.Column('received_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('extended_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('extension_reason', sa.String(), nullable=True),
        sa.Column('old_copies_purged_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('warned_until', sa.DateTime(timezone=True), nullable=True),
        sa.Column('warn_next_at', sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column('deletion_requests', column)
    op.execute("update deletion_requests set received_at = created_at")
    # The first look at each finds what there is to tell of its term; what is past is not told again.
    op.execute(f"update deletion_requests set warned_until = now(), warn_next_at = now() where due_at is not null and {_OPEN}")
    op.create_index('ix_deletion_requests_warn', 'deletion_requests', ['warn_next_at', 'id'], unique=False, postgresql_where=sa.text(f"warn_next_at is not null and {_OPEN}"))
    op.create_index('ix_deletion_requests_received', 'deletion_requests', ['workspace_id', 'received_at', 'id'], unique=False)
    op.add_column('deletion_targets', sa.Column('waits_for', sa.String(), nullable=True))
    op.add_column('runs', sa.Column('due_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False))
    op.execute("update runs set due_at = created_at")
    op.drop_index('ix_runs_queued', table_name='runs')
    op.create_index('ix_runs_queued', 'runs', ['due_at', 'id'], unique=False, postgresql_where=sa.text("status = 'queued'"))


def downgrade() -> None:
    op.drop_index('ix_runs_queued', table_name='runs')
    op.create_index('ix_runs_queued', 'runs', ['created_at', 'id'], unique=False, postgresql_where=sa.text("status = 'queued'"))
    op.drop_column('runs', 'due_at')
    op.drop_column('deletion_targets', 'waits_for')
    op.drop_index('ix_deletion_requests_received', table_name='deletion_requests')
    op.drop_index('ix_deletion_requests_warn', table_name='deletion_requests')
    for column in ('warn_next_at', 'warned_until', 'old_copies_purged_at', 'extension_reason', 'extended_at', 'received_at', 'regulation'):
        op.drop_column('deletion_requests', column)
