"""data subject requests of OpenDSR, their callbacks and the certificates that signed

Revision: 0008, after 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0008'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('opendsr_certificates',
        sa.Column('fingerprint', sa.String(), nullable=False),
        sa.Column('pem', sa.String(), nullable=False),
        sa.Column('first_used_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.PrimaryKeyConstraint('fingerprint', name=op.f('pk_opendsr_certificates'))
    )
    op.create_table('opendsr_requests',
        sa.Column('id', sa.String(), nullable=False),
        sa.Column('workspace_id', sa.String(), nullable=False),
        sa.Column('subject_request_id', sa.String(), nullable=False),
        sa.Column('regulation', sa.String(), nullable=False),
        sa.Column('legacy', sa.Boolean(), nullable=False),
        sa.Column('body_digest', sa.LargeBinary(), nullable=False),
        sa.Column('status', sa.String(), nullable=False),
        sa.Column('state', sa.String(), nullable=False),
        sa.Column('reason', sa.String(), nullable=True),
        sa.Column('native_revision', sa.Integer(), server_default='0', nullable=False),
        sa.Column('submitted_time', sa.DateTime(timezone=True), nullable=False),
        sa.Column('received_time', sa.DateTime(timezone=True), nullable=False),
        sa.Column('expected_completion_time', sa.DateTime(timezone=True), nullable=False),
        sa.Column('hold_until', sa.DateTime(timezone=True), nullable=False),
        sa.Column('cancelled_time', sa.DateTime(timezone=True), nullable=True),
        sa.Column('completed_time', sa.DateTime(timezone=True), nullable=True),
        sa.Column('results_count', sa.Integer(), nullable=True),
        sa.Column('certificate_fingerprint', sa.String(), nullable=False),
        sa.CheckConstraint("status in ('pending', 'in_progress', 'completed', 'cancelled')", name=op.f('ck_opendsr_requests_status')),
        sa.ForeignKeyConstraint(['certificate_fingerprint'], ['opendsr_certificates.fingerprint'], name=op.f('fk_opendsr_requests_certificate_fingerprint')),
        sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_opendsr_requests_workspace_id')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_opendsr_requests')),
        sa.UniqueConstraint('workspace_id', 'subject_request_id', name=op.f('uq_opendsr_requests_workspace_id_subject_request_id'))
    )
    op.create_index('ix_opendsr_requests_open', 'opendsr_requests', ['hold_until'], unique=False, postgresql_where=sa.text("status in ('pending', 'in_progress')"))
    op.create_table('opendsr_callbacks',
        sa.Column('id', sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column('opendsr_id', sa.String(), nullable=False),
        sa.Column('url', sa.String(), nullable=False),
        sa.Column('gone', sa.Boolean(), server_default=sa.text('false'), nullable=False),
        sa.ForeignKeyConstraint(['opendsr_id'], ['opendsr_requests.id'], name=op.f('fk_opendsr_callbacks_opendsr_id')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_opendsr_callbacks'))
    )
    op.create_index(op.f('ix_opendsr_callbacks_opendsr_id'), 'opendsr_callbacks', ['opendsr_id'], unique=False)
    op.create_table('opendsr_work',
        sa.Column('opendsr_id', sa.String(), nullable=False),
        sa.Column('deletion_request_id', sa.String(), nullable=False),
        sa.Column('ordinal', sa.Integer(), nullable=False),
        sa.Column('superseded', sa.Boolean(), server_default=sa.text('false'), nullable=False),
        sa.ForeignKeyConstraint(['deletion_request_id'], ['deletion_requests.id'], name=op.f('fk_opendsr_work_deletion_request_id')),
        sa.ForeignKeyConstraint(['opendsr_id'], ['opendsr_requests.id'], name=op.f('fk_opendsr_work_opendsr_id')),
        sa.PrimaryKeyConstraint('opendsr_id', 'deletion_request_id', name=op.f('pk_opendsr_work'))
    )
    op.create_table('opendsr_events',
        sa.Column('id', sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column('event_id', sa.String(), nullable=False),
        sa.Column('callback_id', sa.Integer(), nullable=False),
        sa.Column('request_status', sa.String(), nullable=False),
        sa.Column('body', sa.LargeBinary(), nullable=False),
        sa.Column('status', sa.String(), server_default='pending', nullable=False),
        sa.Column('attempts', sa.Integer(), server_default='0', nullable=False),
        sa.Column('next_attempt_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('delivered_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status in ('pending', 'delivered', 'exhausted', 'discarded')", name=op.f('ck_opendsr_events_status')),
        sa.ForeignKeyConstraint(['callback_id'], ['opendsr_callbacks.id'], name=op.f('fk_opendsr_events_callback_id')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_opendsr_events')),
        sa.UniqueConstraint('event_id', 'callback_id', name=op.f('uq_opendsr_events_event_id_callback_id'))
    )
    op.create_index('ix_opendsr_events_pending', 'opendsr_events', ['callback_id', 'id'], unique=False, postgresql_where=sa.text("status = 'pending'"))
    op.create_table('opendsr_attempts',
        sa.Column('id', sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column('opendsr_event', sa.Integer(), nullable=False),
        sa.Column('at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('status_code', sa.Integer(), nullable=True),
        sa.Column('latency_ms', sa.Integer(), nullable=False),
        sa.Column('error', sa.String(), nullable=True),
        sa.Column('response', sa.String(), nullable=True),
        sa.ForeignKeyConstraint(['opendsr_event'], ['opendsr_events.id'], name=op.f('fk_opendsr_attempts_opendsr_event'), ondelete='CASCADE'),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_opendsr_attempts'))
    )
    op.create_index(op.f('ix_opendsr_attempts_opendsr_event'), 'opendsr_attempts', ['opendsr_event'], unique=False)


def downgrade() -> None:
    op.drop_index(op.f('ix_opendsr_attempts_opendsr_event'), table_name='opendsr_attempts')
    op.drop_table('opendsr_attempts')
    op.drop_index('ix_opendsr_events_pending', table_name='opendsr_events', postgresql_where=sa.text("status = 'pending'"))
    op.drop_table('opendsr_events')
    op.drop_table('opendsr_work')
    op.drop_index(op.f('ix_opendsr_callbacks_opendsr_id'), table_name='opendsr_callbacks')
    op.drop_table('opendsr_callbacks')
    op.drop_index('ix_opendsr_requests_open', table_name='opendsr_requests', postgresql_where=sa.text("status in ('pending', 'in_progress')"))
    op.drop_table('opendsr_requests')
    op.drop_table('opendsr_certificates')
