"""indexes by which webhooks are claimed in order, replayed and counted

Revision: 0014, after 0013
"""

import sqlalchemy as sa
from alembic import op

from migrations.building import create_index_beside_traffic

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None

_PENDING = "status = 'pending'"
_FIRST = "status = 'pending' and attempts = 0"


def upgrade() -> None:
    create_index_beside_traffic('ix_webhook_messages_position', 'webhook_messages', ['workspace_id', 'position'])
    create_index_beside_traffic('ix_webhook_deliveries_pending', 'webhook_deliveries', ['endpoint_id', 'priority', 'next_attempt_at', 'position'], postgresql_where=sa.text(_PENDING))
    create_index_beside_traffic('ix_webhook_deliveries_first', 'webhook_deliveries', ['endpoint_id', 'resource', 'position'], postgresql_where=sa.text(_FIRST))
    create_index_beside_traffic('ix_webhook_attempts_endpoint', 'webhook_attempts', ['endpoint_id', 'at'])
    op.drop_index('ix_webhook_deliveries_due', table_name='webhook_deliveries', if_exists=True)


def downgrade() -> None:
    op.create_index('ix_webhook_deliveries_due', 'webhook_deliveries', ['next_attempt_at'], unique=False, postgresql_where=sa.text(_PENDING))
    op.drop_index('ix_webhook_attempts_endpoint', table_name='webhook_attempts')
    op.drop_index('ix_webhook_deliveries_first', table_name='webhook_deliveries')
    op.drop_index('ix_webhook_deliveries_pending', table_name='webhook_deliveries')
    op.drop_index('ix_webhook_messages_position', table_name='webhook_messages')
