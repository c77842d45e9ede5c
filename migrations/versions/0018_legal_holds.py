"""legal holds

Revision: 0018, after 0017
"""

import sqlalchemy as sa
from alembic import op

revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'legal_holds',
        sa.Column('id', sa.String(), nullable=False),
        sa.Column('workspace_id', sa.String(), nullable=False),
        sa.Column('scope', sa.String(), nullable=False),
        sa.Column('object_id', sa.String(), nullable=True),
        sa.Column('name', sa.String(), nullable=True),
        sa.Column('reason', sa.String(), nullable=False),
        sa.Column('created_by', sa.String(), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('released_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('released_by', sa.String(), nullable=True),
        sa.Column('release_reason', sa.String(), nullable=True),
        sa.CheckConstraint("(scope = 'workspace') = (object_id is null)", name=op.f('ck_legal_holds_object')),
        sa.CheckConstraint("scope in ('workspace', 'dataset', 'model')", name=op.f('ck_legal_holds_scope')),
        sa.ForeignKeyConstraint(['workspace_id'], ['workspaces.id'], name=op.f('fk_legal_holds_workspace_id')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_legal_holds')),
    )
    op.create_index('ix_legal_holds_in_force', 'legal_holds', ['workspace_id'], unique=False, postgresql_where=sa.text('released_at is null'))
    op.create_index('ix_legal_holds_list', 'legal_holds', ['workspace_id', 'created_at', 'id'], unique=False)


def downgrade() -> None:
    op.drop_table('legal_holds')
