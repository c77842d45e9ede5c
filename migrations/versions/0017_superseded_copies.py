"""superseded copies: editions of the files of data sets, and versions that are purged

Revision: 0017, after 0016
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column('edition', sa.Integer(), server_default='1', nullable=False),
        sa.Column('rewrite', sa.String(), server_default='ours', nullable=False),
        sa.Column('rewrite_attempt', sa.Integer(), server_default='0', nullable=False),
        sa.Column('rewrite_lease_until', sa.DateTime(timezone=True), nullable=True),
        sa.Column('rewrite_error', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    ):
        op.add_column('datasets', column)
    op.create_check_constraint(op.f('ck_datasets_rewrite'), 'datasets', "rewrite in ('ours', 'never')")
    op.create_table(
        'dataset_editions',
        sa.Column('dataset_id', sa.String(), nullable=False),
        sa.Column('edition', sa.Integer(), nullable=False),
        sa.Column('fingerprint', sa.String(), nullable=False),
        sa.Column('records_removed', sa.Integer(), server_default='0', nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.ForeignKeyConstraint(['dataset_id'], ['datasets.id'], name=op.f('fk_dataset_editions_dataset_id')),
        sa.PrimaryKeyConstraint('dataset_id', 'edition', name=op.f('pk_dataset_editions')),
    )
    op.execute("insert into dataset_editions (dataset_id, edition, fingerprint, created_at) select id, 1, fingerprint, coalesce(ready_at, created_at) from datasets where fingerprint is not null")
    op.create_table(
        'superseded_files',
        sa.Column('dataset_id', sa.String(), nullable=False),
        sa.Column('ordinal', sa.Integer(), nullable=False),
        sa.Column('last_edition', sa.Integer(), nullable=False),
        sa.Column('path', sa.String(), nullable=False),
        sa.Column('uri', sa.String(), nullable=False),
        sa.Column('size_bytes', sa.BigInteger(), nullable=False),
        sa.Column('sha256', sa.String(), nullable=False),
        sa.Column('rows', sa.BigInteger(), nullable=False),
        sa.Column('ours', sa.Boolean(), nullable=False),
        sa.Column('superseded_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('keep_until', sa.DateTime(timezone=True), nullable=False),
        sa.Column('purged_at', sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(['dataset_id'], ['datasets.id'], name=op.f('fk_superseded_files_dataset_id')),
        sa.PrimaryKeyConstraint('dataset_id', 'ordinal', 'last_edition', name=op.f('pk_superseded_files')),
    )
    op.create_index('ix_superseded_files_kept', 'superseded_files', ['keep_until'], postgresql_where=sa.text('purged_at is null'))
    op.add_column('records', sa.Column('last_edition', sa.Integer(), nullable=True))
    for column in (
        sa.Column('retired_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('purge_blocked', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column('purged_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('original_retained_at', sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column('model_versions', column)
    # Since when is not known of those that were superseded before: their retention begins now.
    op.execute("update model_versions set retired_at = now() where state = 'retired'")


def downgrade() -> None:
    for column in ('original_retained_at', 'purged_at', 'purge_blocked', 'retired_at'):
        op.drop_column('model_versions', column)
    op.drop_column('records', 'last_edition')
    op.drop_table('superseded_files')
    op.drop_table('dataset_editions')
    op.drop_constraint(op.f('ck_datasets_rewrite'), 'datasets', type_='check')
    for column in ('rewrite_error', 'rewrite_lease_until', 'rewrite_attempt', 'rewrite', 'edition'):
        op.drop_column('datasets', column)
