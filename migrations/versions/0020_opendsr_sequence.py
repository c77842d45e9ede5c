"""the sequence of the events that webhooks hear of an OpenDSR request

Revision: 0020, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = '0020'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('opendsr_requests', sa.Column('told', sa.Integer(), server_default='0', nullable=False))
    # Beyond every number that was told before: those were revisions, or ids of callback events.
    op.execute(
        "update opendsr_requests r set told = r.native_revision + coalesce((select max(e.id) from opendsr_events e "
        "join opendsr_callbacks c on c.id = e.callback_id where c.opendsr_id = r.id), 0)"
    )


def downgrade() -> None:
    op.drop_column('opendsr_requests', 'told')
