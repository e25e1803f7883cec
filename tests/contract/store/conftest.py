"""A fresh store for each test: on a SQLite file, and on PostgreSQL where DORMOUSE_TEST_POSTGRES names one.

Each test on PostgreSQL has a schema of its own, so that tests share nothing but the server.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from orchestrator.adapters.database import SqlStore, migrate, open_store
from orchestrator.domain.lifecycle import Event
from orchestrator.domain.names import BuildId, CommitSha, ReplicaId, SpaceName, UserId
from orchestrator.domain.space import Replica, ReplicaState, Revision, Route, RouteMode, Space, Variable

SHA = CommitSha("a" * 40)
POSTGRES = os.environ.get("DORMOUSE_TEST_POSTGRES", "")
KINDS = ("sqlite", *(["postgres"] if POSTGRES else []))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "dormouse.db"
    migrate(path)
    return path


@pytest.fixture(params=KINDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a database may be made."""
    if request.param == "sqlite":
        yield str(tmp_path / "dormouse.db")
        return
    schema = f"test_{uuid.uuid4().hex}"
    url = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield url.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@pytest.fixture
def url(empty_url: str, migrated_file: Path) -> str:
    """Where a migrated database is."""
    if "://" in empty_url:
        migrate(empty_url)
    else:
        shutil.copyfile(migrated_file, empty_url)
    return empty_url


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    opened = open_store(url)
    yield opened
    opened.close()


class World:
    """Short ways to the states that tests begin with."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.clock = 1000.0
        self._replicas = 0

    def now(self) -> float:
        self.clock += 1.0
        return self.clock

    def space(self, name: str = "alice/app", *, visibility: str = "public", created_by: str = "u1") -> Space:
        owner, _, short = name.partition("/")
        return self.store.create_space(
            SpaceName(owner, short),
            sdk="gradio",
            domain="localhost",
            created_by=UserId(created_by),
            visibility=visibility,
            now=self.now(),
        )

    def building(self, name: str = "alice/app") -> Space:
        return self.store.happen(self.space(name).id, Event.COMMIT_ACCEPTED, now=self.now(), sha=SHA)

    def built(self, space: Space, revision: str = "r1") -> Space:
        """The build of a BUILDING Space has brought `revision`."""
        self.store.add_revision(
            Revision(
                id=f"{space.id}-{revision}",
                space_id=space.id,
                sha=SHA,
                title="first",
                created_at=self.now(),
                build_id=BuildId("b"),
                image={"id": "env1", "snapshot": "x"},
            )
        )
        return self.store.happen(space.id, Event.BUILD_SUCCEEDED, now=self.now(), revision_id=f"{space.id}-{revision}")

    def replica(self, space: Space, **fields: object) -> Replica:
        """A starting replica of what the Space wants now."""
        self._replicas += 1
        values: dict[str, object] = {
            "id": ReplicaId(f"replica{self._replicas}"),
            "space_id": space.id,
            "revision_id": space.revision_id or "",
            "state": ReplicaState.STARTING,
            "generation": space.generation,
            "started_at": self.now(),
        }
        replica = Replica(**(values | fields))  # type: ignore[arg-type]
        assert self.store.add_replica(replica)
        return replica

    def ready(self, replica: Replica, *, grace_s: float = 20.0) -> Route | None:
        return self.store.replica_ready(replica.id, f"unix:apps/{replica.id}.sock", now=self.now(), grace_s=grace_s)

    def running(self, name: str = "alice/app") -> tuple[Space, Replica, Route]:
        space = self.built(self.building(name))
        replica = self.replica(space)
        route = self.ready(replica)
        assert route is not None
        return self.get(space), replica, route

    def asleep(self, name: str = "alice/app") -> Space:
        space, _, route = self.running(name)
        drain = self.store.change_route(space.host, expect=route.generation, mode=RouteMode.DRAIN, now=self.now())
        assert drain is not None
        assert self.store.fall_asleep(space.id, space.host, expect=drain.generation, now=self.now())
        return self.get(space)

    def get(self, space: Space) -> Space:
        found = self.store.space(space.id)
        assert found is not None
        return found


@pytest.fixture
def world(store: SqlStore) -> World:
    return World(store)


@pytest.fixture
def make_belongings(store: SqlStore) -> Callable[[Space], None]:
    """Give a Space one of everything that belongs to it."""

    def make(space: Space) -> None:
        store.request_build(space.id, SHA, factory=False, now=1.0)
        store.set_variable(space.id, Variable(key="A", value="1"), secret=False)
        store.set_variable(space.id, Variable(key="A", value="1"), secret=True)
        store.record_wake(space.id, took_s=1.0, now=1.0)

    return make
