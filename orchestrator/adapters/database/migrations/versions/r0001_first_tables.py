"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UNFINISHED = sa.text("status IN ('queued', 'running')")
STARTING = sa.text("state = 'starting'")
TABLES = (
    "users",
    "tokens",
    "spaces",
    "events",
    "variables",
    "wakes",
    "builds",
    "revisions",
    "replicas",
    "routes",
    "gateways",
    "counters",
    "leases",
    "kept_values",
)


def upgrade() -> None:
    _create_people()
    _create_spaces()
    _create_builds()
    _create_traffic()
    _create_installation()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _create_people() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("name_key", sa.String(), nullable=False),
        sa.Column("full_name", sa.String(), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name_key", name="uq_users_name_key"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_tokens_token_hash"),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"], unique=False)


def _create_spaces() -> None:
    op.create_table(
        "spaces",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner_key", sa.String(), nullable=False),
        sa.Column("name_key", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("stage_since", sa.Double(), nullable=False),
        sa.Column("sdk", sa.String(), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("sha", sa.String(), nullable=True),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("revision_id", sa.String(), nullable=True),
        sa.Column("good_revision_id", sa.String(), nullable=True),
        sa.Column("sleep_asked_at", sa.Double(), nullable=True),
        sa.Column("visibility", sa.String(), nullable=False),
        sa.Column("sleep_time_s", sa.BigInteger(), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("start_failures", sa.Integer(), nullable=False),
        sa.Column("start_not_before", sa.Double(), nullable=False),
        sa.Column("wake_asked_at", sa.Double(), nullable=True),
        sa.Column("last_active_at", sa.Double(), nullable=False),
        sa.Column("last_moved_at", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_spaces"),
        sa.UniqueConstraint("host", name="uq_spaces_host"),
        sa.UniqueConstraint("owner_key", "name_key", name="uq_spaces_owner_key_name_key"),
    )
    op.create_index("ix_spaces_created", "spaces", ["created_at", "id"], unique=False)
    op.create_index("ix_spaces_creator_updated", "spaces", ["created_by", "updated_at", "id"], unique=False)
    op.create_index("ix_spaces_owner_created", "spaces", ["owner_key", "created_at", "id"], unique=False)
    op.create_index("ix_spaces_owner_updated", "spaces", ["owner_key", "updated_at", "id"], unique=False)
    op.create_index("ix_spaces_stage", "spaces", ["stage"], unique=False)
    op.create_index("ix_spaces_updated", "spaces", ["updated_at", "id"], unique=False)
    op.create_index("ix_spaces_visibility_created", "spaces", ["visibility", "created_at", "id"], unique=False)
    op.create_index("ix_spaces_visibility_updated", "spaces", ["visibility", "updated_at", "id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("space_id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_events_space_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_space", "events", ["space_id", "id"], unique=False)
    op.create_table(
        "variables",
        sa.Column("space_id", sa.String(), nullable=False),
        sa.Column("secret", sa.Boolean(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_variables_space_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("space_id", "secret", "key", name="pk_variables"),
    )
    op.create_table(
        "wakes",
        sa.Column("id", ROW_NUMBER, nullable=False),
        sa.Column("space_id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("took_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_wakes_space_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_wakes"),
    )
    op.create_index("ix_wakes_space", "wakes", ["space_id", "id"], unique=False)


def _create_builds() -> None:
    op.create_table(
        "builds",
        sa.Column("number", ROW_NUMBER, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("space_id", sa.String(), nullable=False),
        sa.Column("sha", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("phases", sa.JSON(), nullable=False),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("factory", sa.Boolean(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.Column("token_hash", sa.String(), nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_builds_space_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name="pk_builds"),
        sa.UniqueConstraint("id", name="uq_builds_id"),
        sa.UniqueConstraint("token_hash", name="uq_builds_token_hash"),
    )
    op.create_index("ix_builds_space", "builds", ["space_id", "number"], unique=False)
    op.create_index(
        "uq_builds_unfinished",
        "builds",
        ["space_id"],
        unique=True,
        sqlite_where=UNFINISHED,
        postgresql_where=UNFINISHED,
    )
    op.create_table(
        "revisions",
        sa.Column("number", ROW_NUMBER, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("space_id", sa.String(), nullable=False),
        sa.Column("sha", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("build_id", sa.String(), nullable=False),
        sa.Column("image", sa.JSON(), nullable=False),
        sa.Column("lock", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_revisions_space_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name="pk_revisions"),
        sa.UniqueConstraint("id", name="uq_revisions_id"),
    )
    op.create_index("ix_revisions_space", "revisions", ["space_id", "number"], unique=False)


def _create_traffic() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("space_id", sa.String(), nullable=False),
        sa.Column("revision_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("stop_after", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_replicas_space_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
    )
    op.create_index("ix_replicas_space_id", "replicas", ["space_id"], unique=False)
    op.create_index(
        "uq_replicas_starting", "replicas", ["space_id"], unique=True, sqlite_where=STARTING, postgresql_where=STARTING
    )
    op.create_table(
        "routes",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("space_id", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("replica_id", sa.String(), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_routes"),
        sa.UniqueConstraint("generation", name="uq_routes_generation"),
    )
    op.create_index("ix_routes_mode", "routes", ["mode", "since"], unique=False)
    op.create_index("ix_routes_space_id", "routes", ["space_id"], unique=False)
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("acked", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("quiet", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gateways"),
    )


def _create_installation() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("fencing", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "kept_values",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_kept_values"),
    )
