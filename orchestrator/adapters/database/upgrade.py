"""Bring a database to the version that this code speaks.

All migrations run in one transaction that holds the database's write lock (PostgreSQL: an advisory lock). Two
processes that start at once take turns, and the second finds nothing left to do; a process that is killed half way
leaves the database as it was.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, text

from orchestrator.adapters.database.engine import LOCK_WAIT_S, Database, database_url, translate_sqlite
from orchestrator.adapters.database.version import HEAD, read_version, refuse_newer
from orchestrator.errors import Refused

_ADVISORY_LOCK = 7878_0001


def migrate(where: str | Path) -> None:
    """Create or update the tables. Raises Refused if the database is newer than this code or cannot be written."""
    url = database_url(where)
    database = Database(url)
    try:
        if database.sqlite:
            _prepare_file(url)
        with database.write() as connection:
            if not database.sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            version = read_version(connection)
            refuse_newer(version)
            if version != HEAD:
                config = Config()
                config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    finally:
        database.close()


def _prepare_file(url: URL) -> None:
    """Create the file for its owner's eyes alone and switch it to WAL, which it stays in for ever."""
    path = url.database or ""
    if path.startswith("file:"):
        return  # A SQLite URI says itself how the file is to be opened.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise Refused(
            f"The database {path} cannot be opened ({reason}): check that {Path(path).parent} is a folder that "
            f"Dormouse may write to, on a disk with free space."
        ) from error
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as connection:
            _switch_to_wal(connection)
    except sqlite3.Error as error:
        raise translate_sqlite(error, path) from error


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for its lock here when two processes switch at the same moment, so the waiting is ours.
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
