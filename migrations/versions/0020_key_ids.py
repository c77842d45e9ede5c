"""which key a digest was made with, so that the service's secret can be replaced

Revision: 0020, after 0019
"""

import sqlalchemy as sa
from alembic import op

revision = '0020'
down_revision = '0019'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('record_identities', sa.Column('key_id', sa.String(), nullable=True))
    op.add_column('dataset_files', sa.Column('identities_key_id', sa.String(), nullable=True))
    op.add_column('opendsr_requests', sa.Column('sealed_body_key', sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column('opendsr_requests', 'sealed_body_key')
    op.drop_column('dataset_files', 'identities_key_id')
    op.drop_column('record_identities', 'key_id')
