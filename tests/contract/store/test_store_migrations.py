"""From an empty file to the newest tables; and what is said when the database cannot be used."""

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, text

from orchestrator.adapters.database import migrate, open_store, upgrade, version
from orchestrator.adapters.database.engine import Database, database_url
from orchestrator.adapters.database.tables import metadata
from orchestrator.errors import Invalid, Refused, Unavailable


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(upgrade.__file__).parent / "migrations"))
    return ScriptDirectory.from_config(config)


def test_the_code_knows_its_migrations():
    assert scripts().get_current_head() == version.HEAD
    assert {script.revision for script in scripts().walk_revisions()} == version.KNOWN


def test_migrating_makes_the_tables_that_the_code_uses(empty_url):
    migrate(empty_url)
    with Database(database_url(empty_url)).read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_what_was_stored_survives_a_second_migration_and_opening(empty_url):
    migrate(empty_url)
    store = open_store(empty_url)
    user = store.create_user("alice", now=1.0)
    store.close()
    migrate(empty_url)
    again = open_store(empty_url)
    assert again.find_user("alice") == user
    again.close()


def test_people_and_tokens_survive_the_move_to_sessions_with_parents_and_back(empty_url):
    def go(towards, to):
        with Database(database_url(empty_url)).write() as connection:
            config = Config()
            config.set_main_option("script_location", str(Path(upgrade.__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            towards(config, to)

    def labels():
        with Database(database_url(empty_url)).read() as connection:
            return sorted(connection.execute(text("SELECT label FROM tokens")).scalars())

    if "://" not in empty_url:
        upgrade._prepare_file(database_url(empty_url))
    go(command.upgrade, "0001")
    with Database(database_url(empty_url)).write() as connection:
        connection.execute(text("INSERT INTO users VALUES ('u1', 'ann', 'ann', '', true, 1.0)"))
        for name in ("laptop", "session"):
            values = {"name": name}
            statement = "INSERT INTO tokens VALUES (:name, 'u1', :name, :name, 'write', 1.0, NULL, NULL)"
            connection.execute(text(statement), values)
    migrate(empty_url)
    # A session of the time before knows no token that it could end with.
    assert labels() == ["laptop"]
    store = open_store(empty_url)
    store.add_token("u1", token_hash="s", label="session", role="write", now=2.0, parent_id="laptop")
    store.close()
    go(command.downgrade, "0001")
    assert labels() == ["laptop"]


def test_two_processes_may_migrate_at_once(empty_url):
    code = "import sys; from orchestrator.adapters.database import migrate; migrate(sys.argv[1])"
    started = [
        subprocess.Popen([sys.executable, "-c", code, empty_url], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in started:
        _, complaint = process.communicate(timeout=120)
        assert process.returncode == 0, complaint
    open_store(empty_url).close()


def test_a_database_of_a_newer_dormouse_is_left_alone(url):
    with Database(database_url(url)).write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (migrate, open_store):
        with pytest.raises(Refused, match="newer Dormouse"):
            use(url)


def test_a_database_without_tables_is_not_opened(empty_url):
    with pytest.raises(Unavailable, match="migrations"):
        open_store(empty_url)
    assert not Path(empty_url).exists()


def test_a_database_that_was_not_migrated_is_not_opened(url):
    with Database(database_url(url)).write() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(Unavailable, match="migrations"):
        open_store(url)


@pytest.mark.parametrize("address", ["mysql://x/y", "sqlite://", "nonsense://", "://"])
def test_an_address_of_no_database_is_refused(address):
    with pytest.raises(Invalid):
        migrate(address)


# --- SQLite files ---------------------------------------------------------------------------------------------
def test_the_file_is_for_its_owner_alone_and_in_wal_mode(tmp_path):
    path = tmp_path / "dormouse.db"
    migrate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_connections_have_what_the_store_relies_on(migrated_file):
    with Database(database_url(migrated_file)).write() as connection:
        found = {name: connection.scalar(text(f"PRAGMA {name}")) for name in ("foreign_keys", "synchronous")}
    assert found == {"foreign_keys": 1, "synchronous": 1}


def test_a_folder_that_is_missing_or_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere" / "dormouse.db", tmp_path / "file" / "dormouse.db", tmp_path):
        with pytest.raises(Refused, match=r"cannot be opened .*: check that"):
            migrate(path)
    with pytest.raises(Refused, match="cannot be opened"):
        open_store(tmp_path / "nowhere" / "dormouse.db")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(*_args, **_more):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(upgrade.os, "open", refuse)
    with pytest.raises(Refused, match="permission denied"):
        migrate(tmp_path / "dormouse.db")


def test_a_file_that_is_no_database_is_left_alone(tmp_path):
    path = tmp_path / "dormouse.db"
    path.write_bytes(b"my diary, page one. " * 500)
    before = path.read_bytes()
    with pytest.raises(Refused, match="no database of Dormouse"):
        migrate(path)
    assert path.read_bytes() == before


def test_a_database_that_can_only_be_read_says_so(migrated_file):
    store = open_store(f"sqlite:///file:{migrated_file}?mode=ro&uri=true")
    assert store.list_users() == []
    with pytest.raises(Refused, match="cannot be written"):
        store.create_user("alice", now=1.0)
    store.close()


def test_a_full_disk_says_so_and_loses_nothing(url):
    if "://" in url:
        pytest.skip("the disk of the PostgreSQL server is not ours to fill")
    store = open_store(url)
    store.close()

    @event.listens_for(store._database.engine, "connect")
    def limit(connection, _entry):
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0] + 2}")

    store.set_value("a", "1")
    with pytest.raises(Unavailable, match="disk is full"):
        store.set_value("b", "x" * 100_000)
    assert (store.get_value("a"), store.get_value("b")) == ("1", None)
    store.set_value("a", "2")
    store.close()


def test_a_lock_that_another_process_holds_is_waited_for_a_while_only(url, monkeypatch):
    if "://" in url:
        pytest.skip("PostgreSQL locks rows, not the database")
    monkeypatch.setattr("orchestrator.adapters.database.engine.LOCK_WAIT_S", 0.2)
    store = open_store(url)
    with closing(sqlite3.connect(url, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="busy"):
            store.set_value("a", "1")
        assert store.get_value("a") is None
        other.execute("ROLLBACK")
    store.set_value("a", "1")
    assert store.get_value("a") == "1"
    store.close()


def test_a_server_that_does_not_answer_says_so(tmp_path):
    pytest.importorskip("psycopg")
    with pytest.raises(Unavailable, match="does not answer"):
        open_store(f"postgresql://nobody@/none?host={tmp_path}")


# --- cost -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sort", ["updated_at", "created_at"])
@pytest.mark.parametrize(
    ("arguments", "index"),
    [
        ({}, "ix_spaces_visibility_"),
        ({"everything": True}, "ix_spaces_"),
        ({"owner": "alice"}, "ix_spaces_owner_"),
        ({"after": (5.0, "x")}, "ix_spaces_visibility_"),
        ({"search": "x"}, "ix_spaces_visibility_"),
    ],
)
def test_a_list_walks_an_index_and_sorts_nothing(migrated_file, sort, arguments, index):
    store, statements = open_store(migrated_file), []

    @event.listens_for(store._database.engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, _context, _many):
        if statement.startswith("SELECT spaces"):
            statements.append((statement, parameters))

    store.list_spaces(sort=sort, limit=5, **arguments)
    ((statement, parameters),) = statements
    with closing(sqlite3.connect(migrated_file)) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))
    assert f"{index}{sort.removesuffix('_at')}" in plan
    assert "TEMP B-TREE" not in plan
    store.close()
