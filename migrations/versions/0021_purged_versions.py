"""how versions are purged, and requests whose old copies are still to be purged

Revision: 0021, after 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0021'
down_revision = '0014'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column('retired_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('purge_blocked', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column('purged_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('original_retained_at', sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column('model_versions', column)
    # Since when is not known of those that were superseded before: their retention begins now.
    op.execute("update model_versions set retired_at = now() where state = 'retired'")
    op.create_index('ix_model_versions_being_purged', 'model_versions', ['id'], unique=False, postgresql_where=sa.text("state = 'purged' and purged_at is null"))
    op.create_index('ix_run_records_record', 'run_records', ['record_id'], unique=False)
    op.create_index('ix_deletion_requests_unpurged', 'deletion_requests', ['id'], unique=False, postgresql_where=sa.text("status = 'completed' and old_copies_purged_at is null"))


def downgrade() -> None:
    op.drop_index('ix_deletion_requests_unpurged', table_name='deletion_requests')
    op.drop_index('ix_run_records_record', table_name='run_records')
    op.drop_index('ix_model_versions_being_purged', table_name='model_versions')
    for column in ('original_retained_at', 'purged_at', 'purge_blocked', 'retired_at'):
        op.drop_column('model_versions', column)
