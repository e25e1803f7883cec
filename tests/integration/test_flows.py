"""From a commit to a route, asleep and awake, and what goes wrong on the way."""

import time
from pathlib import Path

import pytest

from builder.contract import BuildResult, Failure, Image
from orchestrator.controller.sight import Sight
from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import CommitSha
from orchestrator.domain.space import BuildStatus, RouteMode, Space, Variable
from orchestrator.errors import Conflict, Invalid, Unavailable
from orchestrator.flows import collect_garbage, life
from orchestrator.flows.record_build import record_build
from orchestrator.flows.request_build import request_build
from orchestrator.flows.status import status
from orchestrator.flows.visit import visit
from tests.support.flow_world import SHA, World


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


async def test_a_broker_that_is_away_costs_no_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    space = world.new()
    request_build(world.tools, space, SHA, now=time.time(), text="commit")

    def away(order: object) -> None:
        raise Unavailable("The broker does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(world.queue, "send", away)
        await world.turn(space)
    assert world.queue.orders == []
    await world.turn(space)
    assert len(world.queue.orders) == 1


async def test_a_pause_ends_the_build_under_way(world: World) -> None:
    space = world.new()
    request_build(world.tools, space, SHA, now=time.time(), text="commit")
    life.pause(world.tools, world.look(space), now=time.time())
    assert [build.status for build in world.store.builds(space.id)] == [BuildStatus.CANCELLED]
    assert world.store.unfinished_builds() == []


async def test_snapshots_of_forgotten_revisions_are_removed(world: World) -> None:
    space = await world.run(world.new())
    root = world.tools.settings.data / "snapshots" / space.id
    for name in ("x", "forgotten", ".under-way"):
        (root / name).mkdir(parents=True)
        (root / name / "app.py").touch()
    collect_garbage.prune_space(world.tools, space.id, now=time.time())
    assert len(list(root.iterdir())) == 3, "young ones may belong to a build that is not recorded yet"
    collect_garbage.prune_space(world.tools, space.id, now=time.time() + 2 * collect_garbage.KEEP_S)
    assert sorted(path.name for path in root.iterdir()) == [".under-way", "x"]


async def test_who_waits_for_a_start_knows_the_place_in_line(world: World) -> None:
    spaces = [world.new(f"app{number}") for number in range(3)]
    for space in spaces:
        request_build(world.tools, space, SHA, now=time.time(), text="commit")
        world.built(space)
    told = [status(world.tools, world.look(space), now=time.time()) for space in spaces]
    assert [one.place for one in told] == [1, 2, 3]
    await world.turn(spaces[0])
    told = [status(world.tools, world.look(space), now=time.time()) for space in spaces]
    assert [one.place for one in told] == [None, 1, 2]
