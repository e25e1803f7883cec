"""Sessions know the token that they were made with, so that they end with it.

Those made before this know none and could outlive their token for a month, so they end now: people sign in again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM tokens WHERE label = 'session'")
    # SQLite adds no named foreign key to a table, so there the table is copied; no other table refers to it.
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("parent_id", sa.String(), nullable=True))
        table.create_foreign_key("fk_tokens_parent_id", "tokens", ["parent_id"], ["id"], ondelete="CASCADE")
    op.create_index("ix_tokens_parent_id", "tokens", ["parent_id"], unique=False)


def downgrade() -> None:
    op.execute("DELETE FROM tokens WHERE parent_id IS NOT NULL")
    op.drop_index("ix_tokens_parent_id", "tokens")
    with op.batch_alter_table("tokens") as table:
        table.drop_constraint("fk_tokens_parent_id", type_="foreignkey")
        table.drop_column("parent_id")
