"""The store: `orchestrator.ports.store.Store` on SQLite or PostgreSQL, put together from its parts.

    migrate(path_or_url)            once, at the start of the installation
    store = open_store(path_or_url) in each process that may see the database

A store may be used by any number of threads at once, and a database by any number of processes. Every method is one
transaction and reads no clock.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.adapters.database.builds import Builds
from orchestrator.adapters.database.engine import Database, database_url
from orchestrator.adapters.database.leases import Leases
from orchestrator.adapters.database.life import Life
from orchestrator.adapters.database.people import People
from orchestrator.adapters.database.routes import Routes
from orchestrator.adapters.database.spaces import Spaces
from orchestrator.adapters.database.version import check_version
from orchestrator.errors import Unavailable

if TYPE_CHECKING:
    from orchestrator.ports.store import Store


class SqlStore(People, Spaces, Life, Builds, Routes, Leases):
    """All tables behind one port."""

    def close(self) -> None:
        """Give back every connection; the store opens new ones if it is used again."""
        self._database.close()


def open_store(where: str | Path) -> SqlStore:
    """Open a migrated database. Raises Unavailable or Refused with what to do if it cannot be used."""
    url = database_url(where)
    if url.get_backend_name() == "sqlite" and _is_absent(Path(url.database or "")):
        raise Unavailable(f"There is no database at {url.database} yet: run the migrations first.")
    database = Database(url)
    with database.read() as connection:
        check_version(connection)
    return SqlStore(database)


def _is_absent(path: Path) -> bool:
    """Whether SQLite would make an empty file here, which only `migrate` may do: it sets its permissions."""
    return path.parent.is_dir() and not path.exists() and not str(path).startswith("file:")


if TYPE_CHECKING:

    def _is_a_store(store: SqlStore) -> "Store":
        return store
