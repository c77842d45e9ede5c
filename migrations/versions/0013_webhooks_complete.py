"""webhooks: other keys, static headers, health and pauses of endpoints, order of messages, replays; order of OpenDSR's events

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    _endpoints()
    _messages()
    op.add_column('opendsr_requests', sa.Column('told', sa.Integer(), server_default='0', nullable=False))
    # Beyond every number that was told before: those were revisions, or ids of callback events.
    op.execute(
        "update opendsr_requests r set told = r.native_revision + coalesce((select max(e.id) from opendsr_events e "
        "join opendsr_callbacks c on c.id = e.callback_id where c.opendsr_id = r.id), 0)"
    )
    op.create_table('webhook_replays',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('endpoint_id', sa.String(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('since', sa.DateTime(timezone=True), nullable=False),
    sa.Column('until', sa.DateTime(timezone=True), nullable=False),
    sa.Column('only_failed', sa.Boolean(), nullable=False),
    sa.Column('after_position', sa.BigInteger(), server_default='0', nullable=False),
    sa.Column('total', sa.Integer(), nullable=False),
    sa.Column('examined', sa.Integer(), server_default='0', nullable=False),
    sa.Column('queued', sa.Integer(), server_default='0', nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("status in ('running', 'completed', 'stopped')", name=op.f('ck_webhook_replays_status')),
    sa.ForeignKeyConstraint(['endpoint_id'], ['webhook_endpoints.id'], name=op.f('fk_webhook_replays_endpoint_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_replays'))
    )
    op.create_index(op.f('ix_webhook_replays_endpoint_id'), 'webhook_replays', ['endpoint_id'], unique=False)
    op.create_index('uq_webhook_replays_running', 'webhook_replays', ['endpoint_id'], unique=True, postgresql_where=sa.text("status = 'running'"))


def _endpoints() -> None:
    for column in (
        sa.Column('metadata', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column('algorithm', sa.String(), server_default='hmac-sha256', nullable=False),
        sa.Column('sealed_headers', sa.LargeBinary(), nullable=True),
        sa.Column('header_names', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column('healthy', sa.Boolean(), server_default=sa.text('false'), nullable=False),
        sa.Column('failing_since', sa.DateTime(timezone=True), nullable=True),
        sa.Column('paused_until', sa.DateTime(timezone=True), nullable=True),
        sa.Column('revision', sa.Integer(), server_default='1', nullable=False),
    ):
        op.add_column('webhook_endpoints', column)
    op.create_check_constraint(op.f('ck_webhook_endpoints_algorithm'), 'webhook_endpoints', "algorithm in ('hmac-sha256', 'ed25519')")
    op.create_table('webhook_old_keys',
    sa.Column('id', sa.Integer(), sa.Identity(always=False), nullable=False),
    sa.Column('endpoint_id', sa.String(), nullable=False),
    sa.Column('algorithm', sa.String(), nullable=False),
    sa.Column('sealed_secret', sa.LargeBinary(), nullable=False),
    sa.Column('signs_until', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['endpoint_id'], ['webhook_endpoints.id'], name=op.f('fk_webhook_old_keys_endpoint_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_webhook_old_keys'))
    )
    op.create_index(op.f('ix_webhook_old_keys_endpoint_id'), 'webhook_old_keys', ['endpoint_id'], unique=False)
    op.execute(
        "insert into webhook_old_keys (endpoint_id, algorithm, sealed_secret, signs_until) "
        "select id, 'hmac-sha256', sealed_previous_secret, previous_secret_until from webhook_endpoints "
        "where sealed_previous_secret is not null and previous_secret_until > now()"
    )


def _messages() -> None:
    op.add_column('webhook_messages', sa.Column('resource', sa.String(), nullable=True))
    op.add_column('webhook_messages', sa.Column('position', sa.BigInteger(), sa.Identity(always=False), nullable=False))
    op.add_column('webhook_deliveries', sa.Column('resource', sa.String(), nullable=True))
    op.add_column('webhook_deliveries', sa.Column('position', sa.BigInteger(), nullable=True))
    op.add_column('webhook_deliveries', sa.Column('priority', sa.Integer(), server_default='1', nullable=False))


def downgrade() -> None:
    op.drop_table('webhook_replays')
    op.drop_column('opendsr_requests', 'told')
    op.drop_column('webhook_deliveries', 'priority')
    op.drop_column('webhook_deliveries', 'position')
    op.drop_column('webhook_deliveries', 'resource')
    op.drop_column('webhook_messages', 'position')
    op.drop_column('webhook_messages', 'resource')
    op.drop_table('webhook_old_keys')
    op.drop_constraint(op.f('ck_webhook_endpoints_algorithm'), 'webhook_endpoints')
    for column in ('revision', 'paused_until', 'failing_since', 'healthy', 'header_names', 'sealed_headers', 'algorithm', 'metadata'):
        op.drop_column('webhook_endpoints', column)
