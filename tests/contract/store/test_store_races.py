"""Two at once: of claimers one wins, and nothing that must be unique or in order is not."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.adapters.database import open_store
from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import ReplicaId, SpaceName, UserId
from orchestrator.domain.space import BuildStatus, Replica, ReplicaState, RouteMode
from orchestrator.errors import Conflict


@pytest.fixture
def at_once():
    """Call `work(0)`, `work(1)`, ... in threads that start together; their results in order."""

    def run(work, count=8):
        barrier = threading.Barrier(count)

        def one(number):
            barrier.wait(timeout=30)
            return work(number)

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    return run


def test_one_of_many_takes_a_lease(store, at_once):
    for round_ in range(5):
        numbers = at_once(lambda n, at=100.0 * round_: store.take_lease("x", f"{at}-{n}", ttl_s=1.0, now=at))
        assert [number for number in numbers if number is not None] == [round_ + 1]


def test_one_of_many_claims_a_build(world, at_once):
    for number in range(5):
        build = world.store.request_build(world.building(f"a/s{number}").id, "a" * 40, factory=False, now=1.0)
        won = at_once(lambda n, b=build: world.store.build_claimed(b.id, worker=f"w{n}", lease_until=9.0, now=2.0))
        assert sum(won) == 1
        assert world.store.build(build.id).attempt == 1
        ended = at_once(lambda n, b=build: world.store.build_finished(b.id, BuildStatus.FAILED, now=3.0))
        assert sum(ended) == 1


def test_one_of_many_changes_a_route(world, at_once):
    _, _, route = world.running()
    for mode in (RouteMode.DRAIN, RouteMode.SERVE) * 3:
        changed = at_once(
            lambda n, r=route, m=mode: world.store.change_route(r.host, expect=r.generation, mode=m, now=1.0)
        )
        (route,) = [item for item in changed if item is not None]


def test_one_of_many_visits_wakes(world, at_once):
    space = world.asleep()

    def visit(_):
        try:
            world.store.happen(space.id, Event.VISITED, now=5.0, expect=space.generation)
        except Conflict:
            return False
        return True

    assert sum(at_once(visit)) == 1
    assert world.get(space).generation == space.generation + 1
    assert world.get(space).stage is Stage.APP_STARTING


def test_the_sleep_or_the_visit_wins_never_both(world, at_once):
    for number in range(6):
        space, _, route = world.running(f"a/s{number}")
        drain = world.store.change_route(space.host, expect=route.generation, mode=RouteMode.DRAIN, now=1.0)

        def step(n, space=space, drain=drain):
            if n % 2:
                back = world.store.change_route(space.host, expect=drain.generation, mode=RouteMode.SERVE, now=2.0)
                return "served" if back else None
            return "slept" if world.store.fall_asleep(space.id, space.host, expect=drain.generation, now=2.0) else None

        (winner,) = [outcome for outcome in at_once(step) if outcome]
        stage, mode = world.get(space).stage, world.store.route(space.host).mode
        assert (stage, mode) == {
            "slept": (Stage.SLEEPING, RouteMode.GONE),
            "served": (Stage.RUNNING, RouteMode.SERVE),
        }[winner]


def test_one_of_many_replicas_starts(world, at_once):
    space = world.built(world.building())

    def add(number):
        return world.store.add_replica(
            Replica(
                id=ReplicaId(f"r{number}"),
                space_id=space.id,
                revision_id="r",
                state=ReplicaState.STARTING,
                generation=space.generation,
            )
        )

    assert sum(at_once(add)) == 1


def test_builds_asked_for_at_once_leave_one(world, at_once):
    space = world.building()
    at_once(lambda n: world.store.request_build(space.id, f"{n}" * 40, factory=False, now=float(n)))
    builds = world.store.builds(space.id)
    assert len(builds) == 8
    assert [build.status for build in builds].count(BuildStatus.SUPERSEDED) == 7
    assert len(world.store.unfinished_builds()) == 1


def test_a_name_and_a_host_are_given_once(store, at_once):
    def create(number):
        name = SpaceName("a", "b-c") if number % 2 else SpaceName("a-b", "c")
        try:
            return store.create_space(
                name, sdk="", domain="localhost", created_by=UserId("u"), visibility="public", now=1.0
            ).host
        except Conflict:
            return None

    hosts = [host for host in at_once(create) if host]
    assert len(hosts) == len(set(hosts)) == 2


def test_route_generations_rise_without_a_repeat_or_a_step_back(world, at_once):
    running = [world.running(f"a/s{number}") for number in range(8)]
    stop, table = threading.Event(), {}

    def hear():
        """As a gateway does: ask for what came after the newest change that is known."""
        known = max(table.values(), default=0)
        table.update((route.host, route.generation) for route in world.store.routes(after=known))

    def follow():
        while not stop.is_set():
            hear()

    def write(number):
        space, replica, route = running[number]
        generations = []
        for _ in range(10):
            route = world.store.change_route(space.host, expect=route.generation, mode=RouteMode.DRAIN, now=1.0)
            generations.append(route.generation)
            route = world.store.serve(space, replica, now=2.0)
            generations.append(route.generation)
        return generations

    reader = threading.Thread(target=follow)
    reader.start()
    lists = at_once(write)
    stop.set()
    reader.join(timeout=30)
    hear()
    assert table == {route.host: route.generation for route in world.store.routes()}
    for generations in lists:
        assert generations == sorted(generations)
    everything = sorted(generation for generations in lists for generation in generations)
    assert everything == list(range(9, 9 + 160))


def test_two_stores_on_one_database_take_turns(world, url, at_once):
    other = open_store(url)
    space = world.building()
    stores = [world.store, other]
    at_once(lambda n: [stores[n % 2].happen(space.id, Event.RESTART, now=1.0) for _ in range(10)])
    assert world.get(space).generation == space.generation + 80
    assert other.space(space.id) == world.get(space)
    other.close()
