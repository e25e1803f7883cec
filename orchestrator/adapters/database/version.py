"""Which version of the tables this code speaks; compared at every start without loading Alembic."""

from sqlalchemy import Connection, inspect, text

from orchestrator.errors import Refused, Unavailable

HEAD = "0002"
"""Newest migration in `migrations/versions`; a test holds the two together."""
KNOWN = frozenset(("0001", "0002"))


def read_version(connection: Connection) -> str | None:
    """The migration that the database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def check_version(connection: Connection) -> None:
    """Raises Refused for a database newer than this code, Unavailable for one that is not migrated yet."""
    version = read_version(connection)
    refuse_newer(version)
    if version != HEAD:
        raise Unavailable("The database is not set up for this version of Dormouse: run its migrations first.")


def refuse_newer(version: str | None) -> None:
    if version is not None and version not in KNOWN:
        raise Refused(
            f"The database was written by a newer Dormouse (its version is {version}, this one knows {HEAD}): "
            f"start that newer Dormouse again, or restore a backup from before the update."
        )
