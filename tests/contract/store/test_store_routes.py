"""Replicas, the one order of route changes, and gateways."""

import dataclasses

import pytest

from orchestrator.domain.lifecycle import Event
from orchestrator.domain.names import ReplicaId
from orchestrator.domain.space import Replica, ReplicaState, RouteMode
from orchestrator.errors import Bug, Missing


def change(world, route, mode, now=50.0):
    return world.store.change_route(route.host, expect=route.generation, mode=mode, now=now)


# --- replicas -------------------------------------------------------------------------------------------------
def test_replicas_are_added_changed_and_removed(world):
    space, other = world.built(world.building("a/one")), world.built(world.building("a/two"))
    replica, second = world.replica(space), world.replica(other)
    assert world.store.replicas() == [replica, second]
    assert world.store.replicas(space.id) == [replica]
    world.store.update_replica(replica.id, state=ReplicaState.STOPPING, stop_after=9.0)
    stopping = dataclasses.replace(replica, state=ReplicaState.STOPPING, stop_after=9.0)
    assert world.store.replicas(space.id) == [stopping]
    world.store.remove_replica(replica.id)
    world.store.remove_replica(replica.id)
    world.store.update_replica(replica.id, stop_after=9.0)
    assert world.store.replicas(space.id) == []
    with pytest.raises(Bug, match="space_id"):
        world.store.update_replica(second.id, space_id=space.id)


def test_a_space_has_one_starting_replica(world):
    space = world.built(world.building())
    replica = world.replica(space)
    assert not world.store.add_replica(replica)
    assert not world.store.add_replica(dataclasses.replace(replica, id=ReplicaId("second")))
    world.store.update_replica(replica.id, state=ReplicaState.READY)
    assert not world.store.add_replica(replica)
    assert world.store.add_replica(dataclasses.replace(replica, id=ReplicaId("second")))


def test_nothing_is_started_for_an_old_wish(world):
    space = world.built(world.building())
    replica = Replica(
        id=ReplicaId("x"),
        space_id=space.id,
        revision_id="r",
        state=ReplicaState.STARTING,
        generation=space.generation - 1,
    )
    assert not world.store.add_replica(replica)
    assert not world.store.add_replica(dataclasses.replace(replica, space_id="nobody"))
    for event in (Event.PAUSE, Event.DELETE):
        space = world.store.happen(space.id, event, now=world.now())
        assert not world.store.add_replica(dataclasses.replace(replica, generation=space.generation))
    assert world.store.replicas() == []


# --- routes ---------------------------------------------------------------------------------------------------
def test_each_change_is_the_newest(world):
    space, replica, served = world.running()
    drained = change(world, served, RouteMode.DRAIN)
    back = change(world, drained, RouteMode.SERVE)
    drained_again = change(world, back, RouteMode.DRAIN, now=60.0)
    gone = change(world, drained_again, RouteMode.GONE, now=61.0)
    anew = world.store.serve(space, dataclasses.replace(replica, address="unix:b"), now=62.0)
    generations = [route.generation for route in (served, drained, back, drained_again, gone, anew)]
    assert generations == sorted(set(generations))
    assert (drained.mode, drained.address, drained.replica_id) == (RouteMode.DRAIN, served.address, replica.id)
    assert drained_again.since == 60.0
    assert anew == world.store.route(space.host)
    assert (anew.mode, anew.address, anew.since) == (RouteMode.SERVE, "unix:b", 62.0)
    with pytest.raises(Missing):
        world.store.serve(dataclasses.replace(space, id="nobody"), replica, now=1.0)


def test_a_change_of_what_has_moved_on_is_none(world):
    _, _, served = world.running()
    drained = change(world, served, RouteMode.DRAIN)
    assert change(world, served, RouteMode.GONE) is None
    assert world.store.route(served.host) == drained
    assert world.store.change_route("nobody", expect=1, mode=RouteMode.GONE, now=1.0) is None


def test_serve_replaces_a_draining_route(world):
    space, replica, served = world.running()
    drained = change(world, served, RouteMode.DRAIN)
    world.store.serve(space, replica, now=9.0)
    assert change(world, drained, RouteMode.GONE) is None


def test_the_mode_that_it_has_changes_nothing(world):
    _, _, served = world.running()
    assert change(world, served, RouteMode.SERVE) == served
    gone = change(world, served, RouteMode.GONE)
    assert change(world, gone, RouteMode.GONE) == gone
    for mode in (RouteMode.SERVE, RouteMode.DRAIN):
        with pytest.raises(Bug):
            change(world, gone, mode)


def test_a_reader_gets_what_changed_after_what_it_knows(world):
    (_, _, one), (_, _, two) = world.running("a/one"), world.running("a/two")
    assert world.store.routes() == [one, two]
    drained = change(world, one, RouteMode.DRAIN)
    assert world.store.routes() == [two, drained]
    assert world.store.routes(after=two.generation) == [drained]
    assert world.store.routes(after=drained.generation) == []


def test_pruning_forgets_old_withdrawn_routes_and_says_so(world):
    (_, _, one), (_, _, two), (_, _, three) = (world.running(name) for name in ("a/one", "a/two", "a/three"))
    assert world.store.route_horizon() == 0
    old = change(world, one, RouteMode.GONE, now=2000.0)
    young = change(world, two, RouteMode.GONE, now=3000.0)
    world.store.prune_routes(before=2500.0)
    assert world.store.routes() == [three, young]
    assert world.store.route_horizon() == old.generation
    world.store.prune_routes(before=2500.0)
    assert world.store.route_horizon() == old.generation
    world.store.prune_routes(before=9000.0)
    assert world.store.route_horizon() == young.generation
    assert change(world, three, RouteMode.GONE).generation > young.generation


# --- gateways -------------------------------------------------------------------------------------------------
def test_gateways_are_those_heard_of_lately(store):
    store.gateway_seen("one", acked=None, quiet={}, now=100.0)
    store.gateway_seen("two", acked=7, quiet={}, now=105.0)
    assert [(g.id, g.acked, g.seen_at) for g in store.gateways(0.0)] == [("one", 0, 100.0), ("two", 7, 105.0)]
    store.gateway_seen("two", acked=None, quiet={}, now=110.0)
    assert [(g.id, g.acked, g.seen_at) for g in store.gateways(100.0)] == [("two", 7, 110.0)]
    store.gateway_seen("two", acked=3, quiet={}, now=111.0)
    assert store.gateways(100.0)[0].acked == 3
    store.gateway_seen("three", acked=1, quiet={}, now=200_000.0)
    assert [g.id for g in store.gateways(0.0)] == ["three"]


def test_what_is_quiet_is_kept_until_the_drain_is_over(world):
    (_, _, one), (_, _, two) = world.running("a/one"), world.running("a/two")
    one, two = change(world, one, RouteMode.DRAIN), change(world, two, RouteMode.DRAIN)

    def quiet(**said):
        world.store.gateway_seen("g", acked=None, quiet=said, now=5.0)
        return world.store.gateways(0.0)[0].quiet

    assert quiet(**{one.host: one.generation, two.host: two.generation - 1, "x.localhost": 3}) == {
        one.host: one.generation
    }
    assert quiet() == {one.host: one.generation}
    assert quiet(**{two.host: two.generation}) == {one.host: one.generation, two.host: two.generation}
    change(world, one, RouteMode.SERVE)
    assert quiet() == {two.host: two.generation}
    change(world, two, RouteMode.GONE)
    assert quiet() == {}


def test_a_change_of_visibility_is_a_change_of_its_routes(world):
    space = world.built(world.building("a/one"))
    route = world.store.serve(space, world.replica(space), now=1.0)
    assert not route.private
    world.store.update_space(space.id, visibility="private")
    closed = world.store.route(space.host)
    assert (closed.private, closed.mode, closed.since) == (True, RouteMode.SERVE, route.since)
    assert world.store.routes(route.generation) == [closed]
    world.store.update_space(space.id, visibility="private", sleep_time_s=9)
    assert world.store.route(space.host) == closed
    drained = change(world, closed, RouteMode.DRAIN)
    world.store.update_space(space.id, visibility="public")
    opened = world.store.route(space.host)
    assert (opened.private, opened.mode) == (False, RouteMode.DRAIN)
    assert opened.generation > drained.generation
    gone = change(world, opened, RouteMode.GONE)
    world.store.update_space(space.id, visibility="private")
    assert world.store.route(space.host).generation == gone.generation
