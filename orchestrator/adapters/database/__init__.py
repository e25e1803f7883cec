"""The database: SQLite on one machine, PostgreSQL on a cluster, behind `orchestrator.ports.store.Store`."""

from pathlib import Path

from orchestrator.adapters.database.store import SqlStore, open_store

__all__ = ["SqlStore", "migrate", "open_store"]


def migrate(where: str | Path) -> None:
    """Create or update the tables; see `orchestrator.adapters.database.upgrade`."""
    from orchestrator.adapters.database.upgrade import migrate as run  # Alembic is slow to load; few processes need it.

    run(where)
