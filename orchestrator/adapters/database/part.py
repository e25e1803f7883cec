"""What the parts of the store share: the database, ids, and the two statements that everything builds on."""

import secrets
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.adapters.database.engine import Database
from orchestrator.adapters.database.tables import spaces
from orchestrator.errors import Missing


class Part:
    """Base of the parts that `SqlStore` is put together from."""

    def __init__(self, database: Database) -> None:
        self._database = database


def new_id() -> str:
    """24 hexadecimal digits, as the Hub's ids."""
    return secrets.token_hex(12)


def insert_into(connection: Connection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT; both dialects spell it alike, SQLAlchemy keeps it in their packages."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def lock_space(connection: Connection, space_id: str) -> RowMapping:
    """The Space's row, locked until the end of the transaction; raises Missing.

    Always the first lock of a transaction, so that transactions about one Space queue here. SQLite ignores the
    clause: its writing transactions are one after the other anyway.
    """
    statement = select(spaces).where(spaces.c.id == space_id).with_for_update(key_share=True)
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise Missing("There is no such Space.")
    return row
