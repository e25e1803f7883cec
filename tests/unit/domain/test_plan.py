"""What the controller does next, from every situation it can find."""

from dataclasses import replace

from orchestrator.domain import plan
from orchestrator.domain.idle import IdlePolicy
from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import BuildId, CommitSha, ReplicaId, UserId
from orchestrator.domain.space import Build, BuildStatus, Gateway, Replica, ReplicaState, Route, RouteMode, Space

NOW = 10_000.0
SPACE = Space(
    id="s1", owner="ann", name="app", host="ann-app.localhost", stage=Stage.RUNNING, stage_since=NOW - 500,
    sdk="gradio", revision_id="r1", generation=3, last_active_at=NOW - 5, last_moved_at=NOW - 5, created_by=UserId("u"),
)  # fmt: skip
READY = Replica(
    id=ReplicaId("a"), space_id="s1", revision_id="r1", state=ReplicaState.READY, generation=3,
    address="unix:apps/a.sock", started_at=NOW - 500, ready_at=NOW - 490,
)  # fmt: skip
ROUTE = Route(
    host=SPACE.host, space_id="s1", mode=RouteMode.SERVE, address=READY.address, replica_id=READY.id, generation=7,
    since=NOW - 490,
)  # fmt: skip
GATEWAY = Gateway(id="g", acked=7, seen_at=NOW)
BUILD = Build(id=BuildId("b1"), space_id="s1", sha=CommitSha("0" * 40), status=BuildStatus.QUEUED, created_at=NOW - 1)
UP = {READY.id: plan.Seen(state="ready", address=READY.address)}


def view(**changes: object) -> plan.View:
    base = plan.View(
        space=SPACE, replicas=[READY], builds=[], route=ROUTE, gateways=[GATEWAY], seen=UP,
        policy=IdlePolicy(sleep_after_s=60, idle_tab_s=600),
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def space(stage: Stage, **changes: object) -> Space:
    return replace(SPACE, stage=stage, **changes)  # type: ignore[arg-type]


def test_a_running_space_in_use_is_left_alone() -> None:
    assert plan.make_plan(view(), NOW) == ()


def test_an_idle_space_begins_to_drain() -> None:
    (action,) = plan.make_plan(view(), NOW + 60)
    assert isinstance(action, plan.BeginDrain)


def test_without_a_live_gateway_nothing_falls_asleep() -> None:
    assert plan.make_plan(view(gateways=[]), NOW + 60) == ()


def test_news_that_was_on_its_way_when_the_drain_began_cancels_the_sleep() -> None:
    drain = replace(ROUTE, mode=RouteMode.DRAIN, generation=8, since=NOW)
    policy = IdlePolicy(sleep_after_s=60, idle_tab_s=600, reported_within_s=4)
    quiet = replace(GATEWAY, quiet={ROUTE.host: 8})

    def planned(active_at: float, now: float) -> tuple[plan.Action, ...]:
        used = replace(SPACE, last_active_at=active_at, last_moved_at=active_at)
        return plan.make_plan(view(space=used, route=drain, gateways=[quiet], policy=policy), now)

    assert planned(NOW - 60, NOW + 3) == (), "the last report before the marker may still be on its way"
    assert planned(NOW - 60, NOW + 4) == (plan.Sleep(drain),)
    assert planned(NOW - 1, NOW + 4) == (plan.CancelDrain(drain),)


def test_every_gateway_must_be_quiet_for_this_very_drain() -> None:
    idle = replace(SPACE, last_active_at=NOW - 99, last_moved_at=NOW - 99)
    drain = replace(ROUTE, mode=RouteMode.DRAIN, generation=8, since=NOW - 1)
    quiet, busy = replace(GATEWAY, quiet={ROUTE.host: 8}), replace(GATEWAY, id="h")
    old = replace(GATEWAY, quiet={ROUTE.host: 7})
    assert plan.make_plan(view(space=idle, route=drain, gateways=[quiet]), NOW) == (plan.Sleep(drain),)
    assert plan.make_plan(view(space=idle, route=drain, gateways=[quiet, busy]), NOW) == ()
    assert plan.make_plan(view(space=idle, route=drain, gateways=[old]), NOW) == ()


def test_a_drain_without_a_quiet_moment_is_given_up() -> None:
    drain = replace(ROUTE, mode=RouteMode.DRAIN, since=NOW - plan.DRAIN_LIMIT_S)
    assert plan.make_plan(view(route=drain), NOW) == (plan.CancelDrain(drain),)


def test_a_sleep_that_was_asked_for_goes_through() -> None:
    drain = replace(ROUTE, mode=RouteMode.DRAIN, since=NOW - plan.FORCED_DRAIN_S)
    asked = space(Stage.RUNNING, sleep_asked_at=NOW - plan.FORCED_DRAIN_S)
    assert plan.make_plan(view(route=drain, space=asked), NOW) == (plan.Sleep(drain),)


def test_a_drain_is_cancelled_when_a_newer_revision_is_on_its_way() -> None:
    drain = replace(ROUTE, mode=RouteMode.DRAIN, since=NOW)
    (first, *_rest) = plan.make_plan(view(route=drain, space=space(Stage.RUNNING_BUILDING), builds=[
        replace(BUILD, status=BuildStatus.RUNNING, lease_until=NOW + 9)]), NOW)  # fmt: skip
    assert first == plan.CancelDrain(drain)


def test_a_sleeping_space_stops_its_replica_only_after_the_withdrawal_is_known_everywhere() -> None:
    gone = replace(ROUTE, mode=RouteMode.GONE, generation=9, since=NOW)
    asleep = space(Stage.SLEEPING)
    assert plan.make_plan(view(space=asleep, route=gone), NOW) == ()
    acked = replace(GATEWAY, acked=9)
    assert plan.make_plan(view(space=asleep, route=gone, gateways=[acked]), NOW) == (plan.StopReplica(READY.id),)
    late = NOW + plan.ACK_WAIT_S
    assert plan.make_plan(view(space=asleep, route=gone), late) == (plan.StopReplica(READY.id),)


def test_a_sleeping_space_costs_nothing() -> None:
    assert plan.make_plan(view(space=space(Stage.SLEEPING), route=None, replicas=[]), NOW) == ()


def test_a_paused_space_is_withdrawn_before_it_is_stopped() -> None:
    assert plan.make_plan(view(space=space(Stage.PAUSED)), NOW) == (plan.Withdraw(ROUTE),)


def test_a_deleted_space_is_forgotten_last() -> None:
    deleting = space(Stage.DELETING)
    assert plan.make_plan(view(space=deleting), NOW) == (plan.Withdraw(ROUTE),)
    assert plan.make_plan(view(space=deleting, route=None), NOW) == (plan.StopReplica(READY.id),)
    assert plan.make_plan(view(space=deleting, route=None, replicas=[]), NOW) == (plan.Forget(),)


def test_a_woken_space_starts_one_replica() -> None:
    waking = space(Stage.APP_STARTING, generation=4)
    assert plan.make_plan(view(space=waking, replicas=[], route=None, seen={}), NOW) == (plan.StartReplica(),)
    starting = replace(READY, state=ReplicaState.STARTING, generation=4)
    seen = {READY.id: plan.Seen(state="starting")}
    assert plan.make_plan(view(space=waking, replicas=[starting], route=None, seen=seen), NOW) == ()


def test_a_restart_starts_a_new_replica_beside_the_old_one() -> None:
    restarted = space(Stage.RUNNING_APP_STARTING, generation=4)
    assert plan.make_plan(view(space=restarted), NOW) == (plan.StartReplica(),)


def test_back_off_is_kept() -> None:
    waiting = space(Stage.APP_STARTING, generation=4, start_not_before=NOW + 1)
    assert plan.make_plan(view(space=waiting, replicas=[], route=None, seen={}), NOW) == ()


def test_nothing_is_concluded_while_the_runtime_does_not_answer() -> None:
    assert plan.make_plan(view(seen=None), NOW) == ()
    waking = space(Stage.APP_STARTING, generation=4)
    assert plan.make_plan(view(space=waking, replicas=[], route=None, seen=None), NOW) == ()


def test_a_replica_that_the_runtime_does_not_know_is_lost() -> None:
    (action,) = plan.make_plan(view(seen={}), NOW)
    assert isinstance(action, plan.LoseReplica)
    assert action.reason == "vanished"


def test_a_start_that_was_cut_off_is_resumed() -> None:
    waking = space(Stage.APP_STARTING, generation=4)
    starting = replace(READY, state=ReplicaState.STARTING, generation=4)
    assert plan.make_plan(view(space=waking, replicas=[starting], route=None, seen={}), NOW) == (
        plan.ResumeStart(READY.id),
    )


def test_ready_and_ended_are_followed() -> None:
    waking = space(Stage.APP_STARTING, generation=4)
    starting = replace(READY, state=ReplicaState.STARTING, generation=4, address="")
    assert plan.make_plan(view(space=waking, replicas=[starting], route=None), NOW) == (
        plan.MarkReady(READY.id, READY.address),
    )
    ended = {READY.id: plan.Seen(state="ended", reason="exited", detail="exit code 1")}
    assert plan.make_plan(view(space=waking, replicas=[starting], route=None, seen=ended), NOW) == (
        plan.FailStart(READY.id, "exited", "exit code 1"),
    )
    assert plan.make_plan(view(seen=ended), NOW) == (plan.LoseReplica(READY.id, "exited", "exit code 1"),)


def test_a_static_space_is_never_looked_for_in_the_runtime_and_never_sleeps() -> None:
    static = replace(READY, address=plan.STATIC_ADDRESS)
    route = replace(ROUTE, address=plan.STATIC_ADDRESS)
    assert plan.make_plan(view(replicas=[static], route=route, seen={}), NOW + 10_000) == ()


def test_a_replaced_replica_lives_out_its_grace() -> None:
    old = replace(READY, id=ReplicaId("old"), state=ReplicaState.STOPPING, stop_after=NOW + 5)
    assert plan.make_plan(view(replicas=[READY, old]), NOW) == ()
    assert plan.make_plan(view(replicas=[READY, old]), NOW + 5) == (plan.StopReplica(old.id),)


def test_builds_are_sent_resent_requeued_and_given_up() -> None:
    building = space(Stage.BUILDING)
    cases = {
        BUILD: (plan.SendBuild(BUILD.id),),
        replace(BUILD, sent_at=NOW - 1): (),
        replace(BUILD, sent_at=NOW - plan.RESEND_S): (plan.SendBuild(BUILD.id),),
        replace(BUILD, status=BuildStatus.RUNNING, lease_until=NOW + 1, attempt=1): (),
        replace(BUILD, status=BuildStatus.RUNNING, lease_until=NOW - 1, attempt=1): (plan.RequeueBuild(BUILD.id),),
        replace(BUILD, status=BuildStatus.RUNNING, lease_until=NOW - 1, attempt=3): (plan.AbandonBuild(BUILD.id),),
    }
    for build, expected in cases.items():
        assert plan.make_plan(view(space=building, replicas=[], route=None, builds=[build]), NOW) == expected, build
    assert plan.make_plan(view(space=building, replicas=[], route=None), NOW) == (plan.AskForBuild(),)
