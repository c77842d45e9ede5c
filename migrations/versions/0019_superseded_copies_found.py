"""indexes of what has left files, is being purged, or is not known to be gone

Revision: 0019, after 0018
"""

import sqlalchemy as sa
from alembic import op

from migrations.building import create_index_beside_traffic

revision = '0019'
down_revision = '0018'
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index_beside_traffic('ix_records_removed', 'records', ['dataset_id', 'file', 'row'], postgresql_where=sa.text('last_edition is not null'))
    create_index_beside_traffic('ix_model_versions_being_purged', 'model_versions', ['id'], postgresql_where=sa.text("state = 'purged' and purged_at is null"))
    create_index_beside_traffic('ix_run_records_record', 'run_records', ['record_id'])
    create_index_beside_traffic('ix_deletion_requests_unpurged', 'deletion_requests', ['id'], postgresql_where=sa.text("status = 'completed' and old_copies_purged_at is null"))


def downgrade() -> None:
    op.drop_index('ix_deletion_requests_unpurged', table_name='deletion_requests')
    op.drop_index('ix_run_records_record', table_name='run_records')
    op.drop_index('ix_model_versions_being_purged', table_name='model_versions')
    op.drop_index('ix_records_removed', table_name='records')
