"""the audit log refuses every change but new lines

Revision: 0021, after 0020
"""

from alembic import op

revision = '0021'
down_revision = '0020'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "create function refuse_change() returns trigger language plpgsql as $$ begin"
        " raise exception '% takes new lines only', tg_table_name using errcode = 'restrict_violation'; end $$"
    )
    op.execute(
        "create trigger audit_events_append_only before update or delete or truncate on audit_events"
        " for each statement execute function refuse_change()"
    )


def downgrade() -> None:
    op.execute("drop trigger audit_events_append_only on audit_events")
    op.execute("drop function refuse_change()")
