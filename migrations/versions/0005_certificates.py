"""certificates, signing keys, and what runs keep for them

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('runs', sa.Column('selection', postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column('runs', sa.Column('certified_at', sa.DateTime(timezone=True), nullable=True))
    op.create_index('ix_runs_uncertified', 'runs', ['finished_at'], unique=False,
        postgresql_where=sa.text("mode = 'unlearn' and status in ('succeeded', 'failed') and certified_at is null"))
    op.create_table('signing_keys',
    sa.Column('kid', sa.String(), nullable=False),
    sa.Column('public', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('sealed_private', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('retired_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('kid', name=op.f('pk_signing_keys'))
    )
    op.create_index('uq_signing_keys_one_in_use', 'signing_keys', [sa.literal_column('(true)')], unique=True,
        postgresql_where=sa.text('retired_at is null'))
    op.create_table('certificates',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('workspace_id', sa.String(), nullable=False),
    sa.Column('run_id', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('jws', sa.String(), nullable=False),
    sa.Column('kid', sa.String(), nullable=False),
    sa.Column('sealed_salt', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("kind in ('certificate', 'report')", name=op.f('ck_certificates_kind')),
    sa.ForeignKeyConstraint(['kid'], ['signing_keys.kid'], name=op.f('fk_certificates_kid')),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id'], name=op.f('fk_certificates_run_id')),
    sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_certificates_workspace_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_certificates')),
    sa.UniqueConstraint('run_id', name=op.f('uq_certificates_run_id'))
    )
    op.create_index('ix_certificates_list', 'certificates', ['workspace_id', 'created_at', 'id'], unique=False)


def downgrade() -> None:
    op.drop_index('ix_certificates_list', table_name='certificates')
    op.drop_table('certificates')
    op.drop_index('uq_signing_keys_one_in_use', table_name='signing_keys',
        postgresql_where=sa.text('retired_at is null'))
    op.drop_table('signing_keys')
    op.drop_index('ix_runs_uncertified', table_name='runs',
        postgresql_where=sa.text("mode = 'unlearn' and status in ('succeeded', 'failed') and certified_at is null"))
    op.drop_column('runs', 'certified_at')
    op.drop_column('runs', 'selection')
