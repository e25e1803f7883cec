"""What happens to a Space, with its routes and replicas, in one transaction each."""

import pytest

from orchestrator.adapters.database.life import EVENTS_KEPT
from orchestrator.domain.lifecycle import Event, ImpossibleTransition, Stage
from orchestrator.domain.names import ReplicaId
from orchestrator.domain.space import Problem, ReplicaState, RouteMode
from orchestrator.errors import Bug, Conflict, Missing

PROBLEM = Problem("exited", "The app ended. See its log.", "app.py", 3)


def test_a_commit_builds_and_is_written_down(world):
    space = world.space()
    after = world.store.happen(space.id, Event.COMMIT_ACCEPTED, now=50.0, text="pushed", sha="b" * 40)
    assert (after.stage, after.stage_since, after.sha) == (Stage.BUILDING, 50.0, "b" * 40)
    assert after == world.get(space)
    (entry,) = world.store.history(space.id)
    assert (entry.at, entry.kind, entry.text) == (50.0, Event.COMMIT_ACCEPTED.value, "pushed")


def test_an_impossible_event_changes_nothing(world):
    space = world.space()
    with pytest.raises(ImpossibleTransition):
        world.store.happen(space.id, Event.BUILD_SUCCEEDED, now=50.0, sdk="static")
    assert world.get(space) == space
    assert world.store.history(space.id) == []


def test_stage_since_stays_while_the_stage_stays(world):
    space = world.building()
    again = world.store.happen(space.id, Event.COMMIT_ACCEPTED, now=9000.0)
    assert (again.stage, again.stage_since) == (Stage.BUILDING, space.stage_since)


def test_a_serving_revision_lifts_the_stage(world):
    space, _, _ = world.running()
    space = world.store.happen(space.id, Event.COMMIT_ACCEPTED, now=world.now())
    assert space.stage is Stage.RUNNING_BUILDING
    assert world.built(space, "r2").stage is Stage.RUNNING_APP_STARTING


@pytest.mark.parametrize(
    ("event", "raises"),
    [
        (Event.COMMIT_ACCEPTED, True),
        (Event.RESTART, True),
        (Event.PAUSE, True),
        (Event.DELETE, True),
        (Event.VISITED, False),
        (Event.IDLE, False),
        (Event.CONFIG_REFUSED, False),
        (Event.APP_FILE_MISSING, False),
    ],
)
def test_the_generation_rises_when_something_else_is_wanted(world, event, raises):
    space, _, _ = world.running()
    after = world.store.happen(space.id, event, now=world.now())
    assert after.generation - space.generation == int(raises)


def test_the_visit_that_wakes_raises_the_generation_and_the_next_leaves_no_trace(world):
    space = world.asleep()
    woken = world.store.happen(space.id, Event.VISITED, now=77.0)
    assert (woken.stage, woken.generation, woken.wake_asked_at) == (Stage.APP_STARTING, space.generation + 1, 77.0)
    entries = world.store.history(space.id)
    assert world.store.happen(space.id, Event.VISITED, now=78.0) == woken
    assert world.store.history(space.id) == entries


@pytest.mark.parametrize(("event", "stage"), [(Event.PAUSE, Stage.PAUSED), (Event.DELETE, Stage.DELETING)])
def test_a_repeated_order_is_no_other_wish(world, event, stage):
    space = world.store.happen(world.space().id, event, now=5.0)
    again = world.store.happen(space.id, event, now=6.0)
    assert (again.stage, again.generation) == (stage, space.generation)


def test_a_build_raises_the_generation_only_with_another_revision(world):
    space = world.built(world.building())
    same = world.store.happen(space.id, Event.BUILD_SUCCEEDED, now=5.0, revision_id=space.revision_id)
    assert same.generation == space.generation
    assert world.built(space, "r2").generation == space.generation + 1


def test_expect_is_a_compare_and_set(world):
    space = world.building()
    assert world.store.happen(space.id, Event.PAUSE, now=5.0, expect=space.generation).stage is Stage.PAUSED
    with pytest.raises(Conflict):
        world.store.happen(space.id, Event.RESTART, now=6.0, expect=space.generation)
    assert world.get(space).stage is Stage.PAUSED


def test_updated_at_follows_the_author_alone(world):
    space, _, _ = world.running()
    slept = world.store.happen(space.id, Event.IDLE, now=90_000.0)
    woken = world.store.happen(space.id, Event.VISITED, now=91_000.0)
    assert space.updated_at == slept.updated_at == woken.updated_at
    assert world.store.happen(space.id, Event.COMMIT_ACCEPTED, now=92_000.0).updated_at == 92_000.0


@pytest.mark.parametrize("event", [Event.COMMIT_ACCEPTED, Event.RESTART])
def test_a_new_attempt_forgets_problem_and_back_off(world, event):
    space = world.built(world.building())
    world.store.happen(space.id, Event.START_FAILED, now=5.0, problem=PROBLEM, start_failures=3, start_not_before=99.0)
    after = world.store.happen(space.id, event, now=6.0)
    assert (after.problem, after.start_failures, after.start_not_before) == (None, 0, 0.0)


def test_a_visit_forgets_neither_problem_nor_back_off(world):
    space = world.asleep()
    world.store.update_space(space.id, problem=PROBLEM, start_failures=2, start_not_before=99.0)
    after = world.store.happen(space.id, Event.VISITED, now=6.0)
    assert (after.problem, after.start_failures, after.start_not_before) == (PROBLEM, 2, 99.0)


def test_the_callers_fields_win(world):
    space = world.building()
    after = world.store.happen(
        space.id, Event.RESTART, now=6.0, problem=PROBLEM, start_failures=4, wake_asked_at=3.0, updated_at=1.0
    )
    assert (after.problem, after.start_failures, after.wake_asked_at, after.updated_at) == (PROBLEM, 4, 3.0, 1.0)


@pytest.mark.parametrize("field", ["stage", "generation", "id", "host", "nonsense"])
def test_what_only_events_may_change_is_refused(world, field):
    space = world.building()
    with pytest.raises(Bug, match=field):
        world.store.happen(space.id, Event.RESTART, now=6.0, **{field: "x"})
    assert world.get(space) == space


def test_an_unknown_space_is_missing(store):
    with pytest.raises(Missing):
        store.happen("nobody", Event.PAUSE, now=1.0)


def test_the_history_keeps_the_newest_entries(world):
    space = world.building()
    for number in range(EVENTS_KEPT + 40):
        world.store.happen(space.id, Event.RESTART, now=float(number), text=str(number))
    entries = world.store.history(space.id, limit=10_000)
    assert EVENTS_KEPT <= len(entries) < EVENTS_KEPT + 16
    assert [entry.text for entry in entries[:2]] == [str(EVENTS_KEPT + 39), str(EVENTS_KEPT + 38)]
    assert len(world.store.history(space.id, limit=3)) == 3


# --- a replica answers ----------------------------------------------------------------------------------------
def test_a_ready_replica_serves(world):
    space = world.built(world.building())
    replica = world.replica(space)
    route = world.store.replica_ready(replica.id, "unix:apps/a.sock", now=70.0, grace_s=20.0)
    assert route == world.store.route(space.host)
    assert (route.mode, route.address, route.replica_id, route.since) == (
        RouteMode.SERVE,
        "unix:apps/a.sock",
        replica.id,
        70.0,
    )
    assert world.get(space).stage is Stage.RUNNING
    (seen,) = world.store.replicas(space.id)
    assert (seen.state, seen.address, seen.ready_at) == (ReplicaState.READY, "unix:apps/a.sock", 70.0)


def test_the_replaced_replica_gets_its_grace(world):
    space, old, before = world.running()
    space = world.store.happen(space.id, Event.RESTART, now=world.now())
    new = world.replica(space)
    after = world.store.replica_ready(new.id, "unix:b", now=500.0, grace_s=20.0)
    assert after.generation > before.generation
    assert after.replica_id == new.id
    states = {replica.id: (replica.state, replica.stop_after) for replica in world.store.replicas(space.id)}
    assert states == {old.id: (ReplicaState.STOPPING, 520.0), new.id: (ReplicaState.READY, None)}


def test_a_replica_leaves_the_count_of_failures(world):
    space = world.built(world.building())
    replica = world.replica(space)
    world.store.update_space(space.id, start_failures=2)
    world.ready(replica)
    assert world.get(space).start_failures == 2


def test_an_unknown_replica_is_not_wanted(store):
    assert store.replica_ready(ReplicaId("nobody"), "unix:a", now=1.0, grace_s=1.0) is None


@pytest.mark.parametrize("event", [Event.PAUSE, Event.DELETE])
def test_a_replica_that_is_too_late_is_marked_for_stopping(world, event):
    space = world.built(world.building())
    replica = world.replica(space)
    stage = world.store.happen(space.id, event, now=world.now()).stage
    assert world.store.replica_ready(replica.id, "unix:a", now=600.0, grace_s=20.0) is None
    (seen,) = world.store.replicas(space.id)
    assert (seen.state, seen.stop_after) == (ReplicaState.STOPPING, 600.0)
    assert world.store.route(space.host) is None
    assert world.get(space).stage is stage
    assert world.ready(replica) is None


def test_a_replica_of_an_older_wish_makes_room_for_the_wanted_one(world):
    space = world.built(world.building())
    stale = world.replica(space)
    space = world.store.happen(space.id, Event.RESTART, now=world.now())
    assert world.ready(stale) is None
    assert world.get(space).stage is Stage.APP_STARTING
    assert world.ready(world.replica(space)) is not None


def test_a_replica_of_an_older_revision_does_not_pass_for_the_newest(world):
    space = world.built(world.building())
    old = world.replica(space)
    world.store.happen(space.id, Event.COMMIT_ACCEPTED, now=world.now())
    space = world.built(space, "r2")
    assert world.ready(old) is None
    assert world.get(space).stage is Stage.APP_STARTING


def test_an_older_revision_serves_while_the_newest_commit_builds(world):
    space = world.built(world.building())
    old = world.replica(space)
    world.store.happen(space.id, Event.COMMIT_ACCEPTED, now=world.now())
    assert world.ready(old) is not None
    assert world.get(space).stage is Stage.RUNNING_BUILDING


def test_a_replica_that_was_given_up_does_not_replace_what_serves(world):
    space, _, route = world.running()
    world.store.happen(space.id, Event.COMMIT_ACCEPTED, now=world.now())
    newest = world.replica(world.built(space, "r2"))
    world.store.happen(space.id, Event.START_FAILED, now=world.now(), revision_id=space.revision_id)
    assert world.ready(newest) is None
    assert world.store.route(space.host) == route


def test_a_replica_that_was_given_up_serves_where_nothing_does(world):
    space = world.built(world.building())
    late = world.replica(space)
    world.store.happen(space.id, Event.START_FAILED, now=world.now(), revision_id="another")
    assert world.ready(late).replica_id == late.id
    assert world.get(space).stage is Stage.RUNTIME_ERROR


# --- a replica is lost ----------------------------------------------------------------------------------------
def test_losing_the_serving_replica_withdraws_its_route(world):
    space, replica, route = world.running()
    after = world.store.lose_replica(space.id, replica.id, now=80.0, text="killed by signal 9")
    assert after.stage is Stage.APP_STARTING
    gone = world.store.route(space.host)
    assert gone.mode is RouteMode.GONE
    assert gone.generation > route.generation
    assert world.store.replicas(space.id) == []
    assert world.store.history(space.id)[0].text == "killed by signal 9"
    assert world.store.lose_replica(space.id, replica.id, now=81.0, text="again") is None


def test_losing_a_replica_that_does_not_serve_leaves_the_stage(world):
    space, _, route = world.running()
    space = world.store.happen(space.id, Event.RESTART, now=world.now())
    starting = world.replica(space)
    after = world.store.lose_replica(space.id, starting.id, now=80.0, text="exited")
    assert after == space
    assert world.store.route(space.host) == route


def test_losing_a_replica_of_nobody_is_silent(world):
    assert world.store.lose_replica("nobody", ReplicaId("x"), now=1.0, text="") is None
    space, replica, _ = world.running()
    other = world.space("bob/app")
    assert world.store.lose_replica(other.id, replica.id, now=1.0, text="") is None
    assert len(world.store.replicas(space.id)) == 1


# --- falling asleep -------------------------------------------------------------------------------------------
def test_falling_asleep_withdraws_and_sleeps_together(world):
    space, _, route = world.running()
    world.store.update_space(space.id, sleep_asked_at=5.0, start_failures=2)
    drain = world.store.change_route(space.host, expect=route.generation, mode=RouteMode.DRAIN, now=world.now())
    assert world.store.fall_asleep(space.id, space.host, expect=drain.generation, now=300.0)
    asleep = world.get(space)
    assert (asleep.stage, asleep.stage_since, asleep.sleep_asked_at) == (Stage.SLEEPING, 300.0, None)
    assert asleep.start_failures == 0
    gone = world.store.route(space.host)
    assert (gone.mode, gone.since) == (RouteMode.GONE, 300.0)
    assert gone.generation > drain.generation


def test_a_drain_that_was_turned_back_does_not_sleep(world):
    space, _, route = world.running()
    drain = world.store.change_route(space.host, expect=route.generation, mode=RouteMode.DRAIN, now=world.now())
    back = world.store.change_route(space.host, expect=drain.generation, mode=RouteMode.SERVE, now=world.now())
    assert not world.store.fall_asleep(space.id, space.host, expect=drain.generation, now=world.now())
    assert not world.store.fall_asleep(space.id, space.host, expect=back.generation, now=world.now())
    assert world.store.route(space.host) == back
    assert world.get(space).stage is Stage.RUNNING


def test_a_commit_during_the_drain_keeps_the_space_awake(world):
    space, _, route = world.running()
    drain = world.store.change_route(space.host, expect=route.generation, mode=RouteMode.DRAIN, now=world.now())
    world.store.happen(space.id, Event.COMMIT_ACCEPTED, now=world.now())
    assert not world.store.fall_asleep(space.id, space.host, expect=drain.generation, now=world.now())
    assert world.store.route(space.host) == drain
    assert not world.store.fall_asleep("nobody", space.host, expect=drain.generation, now=world.now())


# --- the end --------------------------------------------------------------------------------------------------
def test_forgetting_takes_everything_but_the_withdrawn_route(world, make_belongings):
    space, _, route = world.running()
    make_belongings(space)
    with pytest.raises(Conflict):
        world.store.forget_space(space.id)
    world.store.happen(space.id, Event.DELETE, now=world.now())
    world.store.forget_space(space.id)
    world.store.forget_space(space.id)
    assert world.store.space(space.id) is None
    belongings = (
        world.store.builds(space.id),
        world.store.revisions(space.id),
        world.store.replicas(space.id),
        world.store.variables(space.id),
        world.store.secrets(space.id),
        world.store.history(space.id),
        world.store.recent_wakes(space.id),
    )
    assert not any(belongings)
    gone = world.store.route(space.host)
    assert gone.mode is RouteMode.GONE
    assert gone.generation > route.generation
    assert world.space("alice/app").host == space.host
