"""Connections and transactions: what differs between SQLite and PostgreSQL, kept in one place.

SQLite runs in WAL mode, so that readers never wait. A writing transaction begins with BEGIN IMMEDIATE: it takes the
write lock before it reads, which makes read-then-write safe without a retry. SQLite's own waiting is a polling with
growing pauses, so the threads of one process first queue for a lock of ours and only processes poll for each other.
On PostgreSQL the same methods lock the row of the Space they are about (`SELECT ... FOR NO KEY UPDATE`), always
before any other row, so that no two of them wait for each other.

Every error of the driver leaves as one of `orchestrator.errors`, with a sentence that says what to do.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from orchestrator.errors import Bug, Conflict, DormouseError, Invalid, Missing, Refused, Unavailable

LOCK_WAIT_S = 10.0
"""Longest wait for a lock that another thread or process holds."""
_WRITES = "dormouse_writes"
# sqlite.h's primary result codes; the standard library names them from Python 3.11 on, but only for SQLite.
_BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 5, 6, 8, 10, 11, 13, 14, 26


def database_url(where: str | Path) -> URL:
    """The address of a database: a SQLAlchemy URL as it is, anything else the path of a SQLite file."""
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise Invalid("The database's address is no URL: write a path, or postgresql://user@host/name.") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise Invalid(f"Databases of kind {url.get_backend_name()} are not supported: use SQLite or PostgreSQL.")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise Invalid("Several processes share the database, so it has to be a file: write its path.")
    return url


class Database:
    """One engine and its two kinds of transactions. Safe to share among threads; not across a fork."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.sqlite = url.get_backend_name() == "sqlite"
        self.engine = _make_engine(url, sqlite=self.sqlite)
        self._writer = self.engine.execution_options(**{_WRITES: True})
        self._turn = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads; it sees one state of the database (on SQLite)."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; all of it happens, or nothing does."""
        with self._translated(), self._in_turn(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self.sqlite:
            yield
            return
        if not self._turn.acquire(timeout=LOCK_WAIT_S):
            raise Unavailable("The database is busy; try again in a moment.")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise Unavailable("Too many requests use the database at once; try again in a moment.") from error
        except DBAPIError as error:
            raise translate(error, self.url) from error


def _make_engine(url: URL, *, sqlite: bool) -> Engine:
    # Enough connections for the thread pools of one process: a thread that waits for one waits for a query, not a lock.
    options: dict[str, Any] = {"pool_size": 8, "max_overflow": 56, "pool_timeout": LOCK_WAIT_S}
    options["json_serializer"] = _to_json
    if sqlite:
        engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S}, **options)
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    try:
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5}, **options)
    except ModuleNotFoundError as error:
        raise Unavailable("PostgreSQL needs a driver: install the package psycopg[binary].") from error


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def _on_sqlite_connect(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # Transactions are begun below, not guessed by the driver.
    for pragma in (
        "foreign_keys = ON",
        "synchronous = NORMAL",
        "journal_size_limit = 67108864",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _on_sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def translate(error: DBAPIError, url: URL) -> DormouseError:
    """The error of ours for an error of the driver."""
    if isinstance(error, IntegrityError):
        return _translate_integrity(error)
    if isinstance(error.orig, sqlite3.Error):
        return translate_sqlite(error.orig, url.database or "")
    return _translate_postgres(error)


def _translate_integrity(error: IntegrityError) -> DormouseError:
    if "foreign key" in str(error.orig).lower():
        return Missing("What this belongs to has been deleted meanwhile.")
    return Conflict("This exists already, or was changed by somebody else meanwhile.")


def translate_sqlite(error: sqlite3.Error, path: str) -> DormouseError:
    """The error of ours for an error of SQLite; `path` is the database's file."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    folder = Path(path).parent
    if code in (_BUSY, _LOCKED):
        return Unavailable("The database is busy: another process holds its lock; try again in a moment.")
    if code == _FULL:
        return Unavailable(f"The disk is full: free some space in {folder}.", retry_after_s=30)
    if code == _READONLY:
        return Refused(f"The database {path} cannot be written: check the owner and permissions of {folder}.")
    if code == _CANTOPEN:
        return Refused(f"The database {path} cannot be opened: check that {folder} exists and can be written.")
    if code == _IOERR:
        return Unavailable(f"Reading or writing {path} failed: check the disk below {folder}.", retry_after_s=30)
    if code in (_CORRUPT, _NOTADB):
        return Refused(f"{path} is damaged or no database of Dormouse: restore a backup, or move it away.")
    if "no such table" in str(error) or "no such column" in str(error):
        return Unavailable("The database is not set up for this version of Dormouse: run its migrations first.")
    return Bug(f"The database refused a statement: {error}")


_POSTGRES = {
    "53100": "The database's disk is full: free some space there.",
    "25006": "The database can only be read at the moment: check whether it is a standby.",
    "40P01": "The database was busy with another change of the same thing; try again.",
    "40001": "The database was busy with another change of the same thing; try again.",
    "55P03": "The database is busy; try again in a moment.",
    "42P01": "The database is not set up for this version of Dormouse: run its migrations first.",
    "42703": "The database is not set up for this version of Dormouse: run its migrations first.",
}


def _translate_postgres(error: DBAPIError) -> DormouseError:
    state = getattr(error.orig, "sqlstate", None)
    if state in _POSTGRES:
        return Unavailable(_POSTGRES[state])
    if error.connection_invalidated or state is None or state[:2] in ("08", "53", "57"):
        return Unavailable("The database does not answer: check that it runs and can be reached.", retry_after_s=5)
    if state[:2] == "28":
        return Refused("The database refused the user or password: check the database's address in the settings.")
    return Bug(f"The database refused a statement: {type(error.orig).__name__}.")
