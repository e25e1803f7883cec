"""The flows over the real database, with the runtime and the gateway played by the test."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.contract import BuildOrder, BuildResult, Failure, Image
from orchestrator.adapters.database import SqlStore, migrate, open_store
from orchestrator.controller.reconcile import Reconciler
from orchestrator.controller.sight import Sight
from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import CommitSha, SpaceName
from orchestrator.domain.space import Problem, RouteMode, Space, User, Variable
from orchestrator.domain.waking import Ask
from orchestrator.errors import Conflict, Invalid
from orchestrator.flows import life, receive_commit
from orchestrator.flows.create_space import create_space
from orchestrator.flows.record_build import record_build
from orchestrator.flows.request_build import request_build
from orchestrator.flows.status import status
from orchestrator.flows.visit import visit
from orchestrator.ports.repositories import Commit
from orchestrator.ports.runtime import Observed, ReplicaSpec
from orchestrator.settings import Settings

SHA = CommitSha("a" * 40)


class Silence:
    def send_soon(self, channel: str, payload: str = "") -> None: ...


class Repositories:
    def create(self, space_id: str, files: dict[str, bytes], *, author: str, now: float) -> CommitSha:
        return SHA

    def commit(self, space_id: str, sha: CommitSha) -> Commit:
        return Commit(sha=sha, title="a commit", message="a commit", author="ann", at=0.0)

    def delete(self, space_id: str) -> None: ...


class Vault:
    def seal(self, text: str) -> str:
        return text[::-1]

    def open(self, sealed: str) -> str:
        return sealed[::-1]


class Runtime:
    """Takes everything; the test says what becomes of it."""

    def __init__(self) -> None:
        self.specs: dict[str, ReplicaSpec] = {}
        self.stopped: list[str] = []

    async def start(self, spec: ReplicaSpec) -> None:
        self.specs.setdefault(spec.replica_id, spec)

    async def stop(self, replica_id: str, grace_s: float = 10.0) -> None:
        self.stopped.append(replica_id)

    async def forget(self, replica_id: str) -> None: ...


class Sites:
    def __init__(self) -> None:
        self.live: dict[str, str] = {}

    def publish(self, host: str, snapshot: str) -> str:
        self.live[host] = snapshot
        return "unix:caddy.sock"

    def withdraw(self, host: str) -> None:
        self.live.pop(host, None)


@dataclass
class Queue:
    orders: list[BuildOrder] = field(default_factory=list)

    def send(self, order: BuildOrder) -> None:
        self.orders.append(order)

    def workers(self) -> int:
        return 1


class World:
    """A controller without its loops: the test turns the crank."""

    def __init__(self, folder: Path) -> None:
        migrate(folder / "db")
        self.store: SqlStore = open_store(folder / "db")
        self.runtime, self.sites, self.queue, self.sight = Runtime(), Sites(), Queue(), Sight()
        self.sight.listed([], time.time())
        self.tools: Any = SimpleNamespace(
            settings=Settings(data=folder), store=self.store, repositories=Repositories(), vault=Vault(),
            signals=Silence(), logs=SimpleNamespace(delete_space=lambda *_: None),
        )  # fmt: skip
        self.asked: list[Ask] = []
        self.reconciler = Reconciler(self.tools, self.runtime, self.sites, self.queue, self.sight, self.asked.append)
        self.user: User = self.store.create_user("ann", now=1.0)
        self.store.gateway_seen("g", acked=0, quiet={}, now=time.time())

    def new(self, name: str = "app", sdk: str = "gradio") -> Space:
        return create_space(
            self.tools, self.user, SpaceName("ann", name), sdk=sdk, visibility="public", now=time.time()
        )

    def look(self, space: Space) -> Space:
        found = self.store.space(space.id)
        assert found is not None
        return found

    async def turn(self, space: Space) -> Space:
        """One look of the controller, and the starts that it asked for."""
        await self.reconciler.reconcile(space.id)
        for ask in [self.asked.pop() for _ in range(len(self.asked))]:
            await self.reconciler.start(ask.space_id)
        if self.reconciler.tasks:
            for task in list(self.reconciler.tasks):
                await task
        return self.look(space)

    def built(self, space: Space, sdk: str = "gradio") -> Space:
        build = self.store.builds(space.id)[0]
        image = Image(id=f"i{build.id}", kind="environment", sdk=sdk, snapshot=f"snapshots/{space.id}/x")
        assert record_build(self.tools, self.look(space), build, BuildResult(image=image), now=time.time())
        return self.look(space)

    def see(self, space: Space, state: str, **more: str) -> None:
        replica = self.store.replicas(space.id)[-1]
        address = f"unix:apps/{replica.id}.sock"
        seen = Observed(replica_id=replica.id, space_id=space.id, state=state, address=address, **more)  # type: ignore[arg-type]
        self.sight.changed(seen, time.time())

    async def run(self, space: Space) -> Space:
        """From a commit to RUNNING."""
        request_build(self.tools, self.look(space), SHA, now=time.time(), text="commit")
        await self.turn(space)
        self.built(space)
        await self.turn(space)
        self.see(space, "ready")
        space = await self.turn(space)
        assert space.stage is Stage.RUNNING
        return space

    def ack(self, quiet: dict[str, int] | None = None) -> None:
        newest = max((route.generation for route in self.store.routes()), default=0)
        self.store.gateway_seen("g", acked=newest, quiet=quiet or {}, now=time.time())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_from_commit_to_route(world: World) -> None:
    space = world.new()
    assert space.stage is Stage.NO_APP_FILE
    space = request_build(world.tools, space, SHA, now=time.time(), text="commit")
    assert space.stage is Stage.BUILDING
    space = await world.turn(space)
    assert [order.sha for order in world.queue.orders] == [SHA]
    assert world.built(space).stage is Stage.APP_STARTING
    await world.turn(space)
    (spec,) = world.runtime.specs.values()
    assert spec.environment["SPACE_ID"] == "ann/app"
    await world.turn(space)
    assert len(world.runtime.specs) == 1, "a second look starts nothing twice"
    world.see(space, "ready")
    space = await world.turn(space)
    route = world.store.route(space.host)
    assert route is not None
    assert (space.stage, route.mode) == (Stage.RUNNING, RouteMode.SERVE)
    assert status(world.tools, space, now=time.time()).serving


async def test_secrets_reach_the_replica_only(world: World) -> None:
    from orchestrator.domain.space import Variable

    space = world.new()
    life.set_variable(world.tools, space, Variable(key="KEY", value="sesame"), secret=True, now=time.time())
    assert world.store.secrets(space.id)[0].value == "emases"
    await world.run(space)
    (spec,) = world.runtime.specs.values()
    assert spec.environment["KEY"] == "sesame"


async def test_sleep_waits_for_quiet_and_for_the_acknowledgement(world: World) -> None:
    space = await world.run(world.new())
    life.sleep(world.tools, space, now=time.time())
    space = await world.turn(space)
    assert space.stage is Stage.RUNNING, "the gateway has not said that it is quiet"
    drain = world.store.route(space.host)
    assert drain is not None
    world.ack({space.host: drain.generation})
    space = await world.turn(space)
    assert space.stage is Stage.SLEEPING
    assert world.runtime.stopped == [], "the withdrawal is not acknowledged"
    world.ack()
    await world.turn(space)
    assert len(world.runtime.stopped) == 1
    assert world.store.replicas(space.id) == []


async def test_a_visit_during_the_drain_cancels_the_sleep(world: World) -> None:
    space = await world.run(world.new())
    life.sleep(world.tools, space, now=time.time())
    drain = world.store.route(space.host)
    assert drain is not None
    assert visit(world.tools, space.host, now=time.time()).answer == "serve"
    world.ack({space.host: drain.generation})
    assert (await world.turn(space)).stage is Stage.RUNNING
    route = world.store.route(space.host)
    assert route is not None
    assert route.mode is RouteMode.SERVE


async def test_many_visits_are_one_wake(world: World) -> None:
    space = await world.run(world.new())
    await _fall_asleep(world, space)
    before = len(world.runtime.specs)
    for _ in range(10):
        assert visit(world.tools, space.host, now=time.time()).answer == "wait"
        await world.turn(space)
    assert len(world.runtime.specs) == before + 1
    world.see(space, "ready")
    await world.turn(space)
    assert visit(world.tools, space.host, now=time.time()).answer == "serve"
    assert len(world.store.recent_wakes(space.id)) == 2


async def test_a_failed_start_is_tried_again_and_then_an_error(world: World) -> None:
    space = world.new()
    request_build(world.tools, space, SHA, now=time.time(), text="commit")
    await world.turn(space)
    world.built(space)
    for _ in range(3):
        world.store.update_space(space.id, start_not_before=0.0)
        await world.turn(space)
        world.see(space, "ended", reason="exited", detail="The app ended with exit code 3.")
        space = await world.turn(space)
    assert space.stage is Stage.RUNTIME_ERROR
    assert space.problem is not None
    assert "exit code 3" in space.problem.message
    assert len(world.runtime.specs) == 3
    assert visit(world.tools, space.host, now=time.time()).answer == "explain"


async def test_the_old_revision_serves_on_when_the_new_one_never_answers(world: World) -> None:
    space = await world.run(world.new())
    good = space.revision_id
    request_build(world.tools, space, CommitSha("b" * 40), now=time.time(), text="commit")
    await world.turn(space)
    assert world.built(space).stage is Stage.RUNNING_APP_STARTING
    for _ in range(3):
        world.store.update_space(space.id, start_not_before=0.0)
        await world.turn(space)
        world.see(space, "ended", reason="exited", detail="no")
        space = await world.turn(space)
    assert (space.stage, space.revision_id) == (Stage.RUNTIME_ERROR, good)
    assert visit(world.tools, space.host, now=time.time()).answer == "serve"
    await _fall_asleep(world, space)
    assert visit(world.tools, space.host, now=time.time()).answer == "wait"
    await world.turn(space)
    world.see(space, "ready")
    assert (await world.turn(space)).stage is Stage.RUNNING


async def test_a_failed_build_leaves_the_old_revision(world: World) -> None:
    space = await world.run(world.new())
    request_build(world.tools, space, CommitSha("c" * 40), now=time.time(), text="commit")
    build = world.store.builds(space.id)[0]
    failure = Failure(stage="BUILD_ERROR", code="install", message="no such package")
    assert record_build(world.tools, world.look(space), build, BuildResult(failure=failure), now=time.time())
    space = world.look(space)
    assert space.stage is Stage.BUILD_ERROR
    assert visit(world.tools, space.host, now=time.time()).answer == "serve"
    assert not record_build(world.tools, space, build, BuildResult(failure=failure), now=time.time()), "told once"


async def test_a_newer_commit_supersedes_the_older_build(world: World) -> None:
    space = world.new()
    request_build(world.tools, space, SHA, now=time.time(), text="one")
    first = world.store.builds(space.id)[0]
    request_build(world.tools, world.look(space), CommitSha("d" * 40), now=time.time(), text="two")
    image = Image(id="i", kind="environment", sdk="gradio", snapshot="s")
    assert not record_build(world.tools, world.look(space), first, BuildResult(image=image), now=time.time())
    assert world.look(space).stage is Stage.BUILDING


async def test_a_crash_is_started_again_and_a_crash_loop_is_an_error(world: World) -> None:
    space = await world.run(world.new())
    for _ in range(4):
        world.see(space, "ended", reason="exited", detail="The app crashed.")
        space = await world.turn(space)
        assert space.stage is Stage.APP_STARTING
        world.store.update_space(space.id, start_not_before=0.0)
        await world.turn(space)
        world.see(space, "ready")
        space = await world.turn(space)
        assert space.stage is Stage.RUNNING
    world.see(space, "ended", reason="exited", detail="The app crashed.")
    assert (await world.turn(space)).stage is Stage.RUNTIME_ERROR


async def test_pause_restart_delete(world: World) -> None:
    space = await world.run(world.new())
    life.pause(world.tools, space, now=time.time())
    await world.turn(space)
    assert visit(world.tools, space.host, now=time.time()).answer == "explain"
    world.ack()
    await world.turn(space)
    assert len(world.runtime.stopped) == 1
    assert life.restart(world.tools, world.look(space), factory=False, now=time.time()).stage is Stage.APP_STARTING
    await world.turn(space)
    world.see(space, "ready")
    space = await world.turn(space)
    life.delete(world.tools, space, now=time.time())
    assert visit(world.tools, space.host, now=time.time()).answer == "missing"
    for _ in range(4):
        world.ack()
        await world.reconciler.reconcile(space.id)
        for task in list(world.reconciler.tasks):
            await task
    assert world.store.space(space.id) is None


async def test_a_static_space_is_published_without_a_replica(world: World) -> None:
    space = world.new(sdk="static")
    request_build(world.tools, space, SHA, now=time.time(), text="commit")
    await world.turn(space)
    world.built(space, sdk="static")
    space = await world.turn(space)
    assert space.stage is Stage.RUNNING
    assert list(world.sites.live) == [space.host]
    assert world.runtime.specs == {}
    with pytest.raises(Invalid):
        life.pause(world.tools, space, now=time.time())


async def test_after_a_restart_of_everything_awake_spaces_start_again(world: World) -> None:
    space = await world.run(world.new())
    world.reconciler.sight = Sight()
    assert (await world.turn(space)).stage is Stage.RUNNING, "the runtime has not answered yet"
    world.reconciler.sight.listed([], time.time())
    assert (await world.turn(space)).stage is Stage.APP_STARTING
    assert len(world.runtime.specs) == 2


def test_names_are_taken_once(world: World) -> None:
    world.new("one")
    with pytest.raises(Conflict):
        world.new("ONE")


async def _fall_asleep(world: World, space: Space) -> None:
    life.sleep(world.tools, world.look(space), now=time.time())
    drain = world.store.route(space.host)
    assert drain is not None
    world.ack({space.host: drain.generation})
    assert (await world.turn(space)).stage is Stage.SLEEPING
    world.ack()
    await world.turn(space)


def test_a_push_whose_hook_was_cut_off_is_picked_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    space = world.new()
    seen: list[str] = []
    monkeypatch.setattr(receive_commit, "receive_commit", lambda _, space, now: seen.append(space.id))
    notes = world.tools.settings.data / "received"
    notes.mkdir()
    (notes / space.id).touch()
    (notes / "no-such-space").touch()
    assert receive_commit.pick_up_pushes(world.tools, now=time.time()) == 0, "the hook may still be asking"
    assert receive_commit.pick_up_pushes(world.tools, now=time.time() + 60) == 2
    assert (seen, list(notes.iterdir())) == ([space.id], [])


async def running(world: World, name: str) -> Space:
    """A Space whose first commit runs."""
    space = request_build(world.tools, world.new(name), SHA, now=time.time(), text="one", fields={"sha": SHA})
    await world.turn(space)
    world.built(space)
    await world.turn(space)
    world.see(space, "ready")
    return await world.turn(space)


async def test_a_restart_builds_the_commit_that_came_while_it_was_paused(world: World) -> None:
    newer, space = CommitSha("b" * 40), await running(world, "paused")
    life.pause(world.tools, space, now=time.time())
    await world.turn(space)
    space = request_build(world.tools, world.look(space), newer, now=time.time(), text="two", fields={"sha": newer})
    assert space.stage is Stage.PAUSED
    assert life.restart(world.tools, space, factory=False, now=time.time()).stage is Stage.BUILDING
    assert world.store.builds(space.id)[0].sha == newer


async def test_a_space_that_was_paused_before_its_first_build_can_be_restarted(world: World) -> None:
    space = request_build(world.tools, world.new("early"), SHA, now=time.time(), text="one", fields={"sha": SHA})
    space = life.pause(world.tools, space, now=time.time())
    assert life.restart(world.tools, space, factory=False, now=time.time()).stage is Stage.BUILDING


async def test_a_restart_during_a_build_does_not_lose_the_commit(world: World) -> None:
    newer, space = CommitSha("b" * 40), await running(world, "hasty")
    space = request_build(world.tools, space, newer, now=time.time(), text="two", fields={"sha": newer})
    space = life.restart(world.tools, space, factory=False, now=time.time())
    assert space.stage is Stage.RUNNING_BUILDING
    space = world.built(space)
    revision = world.store.revision(space.revision_id or "")
    assert revision is not None
    assert revision.sha == newer


async def test_a_restart_ends_a_start_that_hangs(world: World) -> None:
    space = request_build(world.tools, world.new("hangs"), SHA, now=time.time(), text="one", fields={"sha": SHA})
    await world.turn(space)
    world.built(space)
    space = await world.turn(space)
    (hung,) = world.store.replicas(space.id)
    life.restart(world.tools, space, factory=False, now=time.time())
    await world.turn(space)
    await world.turn(space)
    assert world.runtime.stopped == [hung.id]
    (fresh,) = world.store.replicas(space.id)
    assert fresh.generation == world.look(space).generation


async def test_a_variable_set_after_a_failed_start_starts_the_newest_revision(world: World) -> None:
    newer, space = CommitSha("b" * 40), await running(world, "needs-a-key")
    old = space.revision_id
    request_build(world.tools, space, newer, now=time.time(), text="two", fields={"sha": newer})
    space = world.built(space)
    newest = space.revision_id
    space = world.store.happen(
        space.id, Event.START_FAILED, now=time.time(), problem=Problem("exited", "no key"), revision_id=old
    )
    assert space.stage is Stage.RUNTIME_ERROR
    space = life.set_variable(world.tools, space, Variable(key="KEY", value="x"), secret=True, now=time.time())
    assert space.revision_id == newest
