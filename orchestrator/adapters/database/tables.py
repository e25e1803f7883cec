"""The tables, in SQLAlchemy Core, for SQLite and PostgreSQL alike.

The rules that more than one writer could break are indexes here, not checks in code: a Space has at most one unfinished
build and at most one starting replica, names and hosts are unique. Indexes follow the questions that are asked often,
so that none of them costs more with 400,000 registered Spaces than with ten; a listing walks its index and stops.

Times are seconds since 1970. `routes` has no foreign key on purpose: the withdrawn route of a forgotten Space has to
stay until every gateway has heard of it. Nothing here is created at run time; `migrations/` does that, and a test
compares the two.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class Seconds(TypeDecorator[float]):
    """A time or a duration. SQLite hands back whole numbers as int from RETURNING; here they are floats again."""

    impl = Double
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> float | None:
        return None if value is None else float(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

UNFINISHED = text("status IN ('queued', 'running')")
"""Written with literals and used as it stands in queries too: bound values would keep the partial index from use."""
STARTING = text("state = 'starting'")
# SQLite numbers rows by itself only in a column that is exactly INTEGER PRIMARY KEY.
_ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")

users = Table(
    "users",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("name_key", String, nullable=False, unique=True),
    Column("full_name", String, nullable=False),
    Column("is_admin", Boolean, nullable=False),
    Column("created_at", Seconds, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("token_hash", String, nullable=False, unique=True),
    Column("label", String, nullable=False),
    Column("role", String, nullable=False),
    Column("created_at", Seconds, nullable=False),
    Column("expires_at", Seconds),
    Column("last_used_at", Seconds),
    Column("parent_id", ForeignKey("tokens.id", ondelete="CASCADE"), index=True),
)

spaces = Table(
    "spaces",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("owner_key", String, nullable=False),
    Column("name_key", String, nullable=False),
    Column("host", String, nullable=False, unique=True),
    Column("stage", String, nullable=False, index=True),
    Column("stage_since", Seconds, nullable=False),
    Column("sdk", String, nullable=False),
    Column("card", JSON, nullable=False),
    Column("sha", String),
    Column("problem", JSON(none_as_null=True)),
    Column("revision_id", String),
    Column("good_revision_id", String),
    Column("sleep_asked_at", Seconds),
    Column("visibility", String, nullable=False),
    Column("sleep_time_s", BigInteger),
    Column("generation", BigInteger, nullable=False),
    Column("start_failures", Integer, nullable=False),
    Column("start_not_before", Seconds, nullable=False),
    Column("wake_asked_at", Seconds),
    Column("last_active_at", Seconds, nullable=False),
    Column("last_moved_at", Seconds, nullable=False),
    Column("created_at", Seconds, nullable=False),
    Column("updated_at", Seconds, nullable=False),
    Column("created_by", String, nullable=False),
    Column("search_text", Text, nullable=False),
    UniqueConstraint("owner_key", "name_key"),
    Index("ix_spaces_updated", "updated_at", "id"),
    Index("ix_spaces_created", "created_at", "id"),
    Index("ix_spaces_visibility_updated", "visibility", "updated_at", "id"),
    Index("ix_spaces_visibility_created", "visibility", "created_at", "id"),
    Index("ix_spaces_owner_updated", "owner_key", "updated_at", "id"),
    Index("ix_spaces_owner_created", "owner_key", "created_at", "id"),
    Index("ix_spaces_creator_updated", "created_by", "updated_at", "id"),
)

events = Table(
    "events",
    metadata,
    Column("id", _ROW_NUMBER, primary_key=True),
    Column("space_id", ForeignKey("spaces.id", ondelete="CASCADE"), nullable=False),
    Column("at", Seconds, nullable=False),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_events_space", "space_id", "id"),
)

variables = Table(
    "variables",
    metadata,
    Column("space_id", ForeignKey("spaces.id", ondelete="CASCADE"), primary_key=True),
    Column("secret", Boolean, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("updated_at", Seconds, nullable=False),
)

builds = Table(
    "builds",
    metadata,
    Column("number", _ROW_NUMBER, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("space_id", ForeignKey("spaces.id", ondelete="CASCADE"), nullable=False),
    Column("sha", String, nullable=False),
    Column("status", String, nullable=False),
    Column("created_at", Seconds, nullable=False),
    Column("started_at", Seconds),
    Column("finished_at", Seconds),
    Column("phases", JSON, nullable=False),
    Column("problem", JSON(none_as_null=True)),
    Column("attempt", Integer, nullable=False),
    Column("factory", Boolean, nullable=False),
    Column("sent_at", Seconds),
    Column("token_hash", String, unique=True),
    Column("worker", String),
    Column("lease_until", Seconds),
    Index("ix_builds_space", "space_id", "number"),
    Index("uq_builds_unfinished", "space_id", unique=True, sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
)

revisions = Table(
    "revisions",
    metadata,
    Column("number", _ROW_NUMBER, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("space_id", ForeignKey("spaces.id", ondelete="CASCADE"), nullable=False),
    Column("sha", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("created_at", Seconds, nullable=False),
    Column("build_id", String, nullable=False),
    Column("image", JSON, nullable=False),
    Column("lock", Text, nullable=False),
    Index("ix_revisions_space", "space_id", "number"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String, primary_key=True),
    Column("space_id", ForeignKey("spaces.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("revision_id", String, nullable=False),
    Column("state", String, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("address", String, nullable=False),
    Column("started_at", Seconds, nullable=False),
    Column("ready_at", Seconds),
    Column("stop_after", Seconds),
    Index("uq_replicas_starting", "space_id", unique=True, sqlite_where=STARTING, postgresql_where=STARTING),
)

routes = Table(
    "routes",
    metadata,
    Column("host", String, primary_key=True),
    Column("space_id", String, nullable=False, index=True),
    Column("mode", String, nullable=False),
    Column("address", String, nullable=False),
    Column("replica_id", String),
    Column("generation", BigInteger, nullable=False, unique=True),
    Column("since", Seconds, nullable=False),
    Index("ix_routes_mode", "mode", "since"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

gateways = Table(
    "gateways",
    metadata,
    Column("id", String, primary_key=True),
    Column("acked", BigInteger, nullable=False),
    Column("seen_at", Seconds, nullable=False),
    Column("quiet", JSON, nullable=False),
)

wakes = Table(
    "wakes",
    metadata,
    Column("id", _ROW_NUMBER, primary_key=True),
    Column("space_id", ForeignKey("spaces.id", ondelete="CASCADE"), nullable=False),
    Column("at", Seconds, nullable=False),
    Column("took_s", Seconds, nullable=False),
    Index("ix_wakes_space", "space_id", "id"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("fencing", BigInteger, nullable=False),
    Column("expires_at", Seconds, nullable=False),
)

kept_values = Table(
    "kept_values",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)
