"""Wanted against observed: what to do next for one Space. Pure.

The controller gathers a `View` of one Space, asks `make_plan`, and carries the actions out; it decides nothing itself.
A plan may be made from the same view twice and carried out twice: every action is repeatable or fenced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.idle import Activity, FallAsleep, IdlePolicy, KeepAwake, decide_idle
from orchestrator.domain.lifecycle import Stage, plain
from orchestrator.domain.names import BuildId, ReplicaId
from orchestrator.domain.space import Build, BuildStatus, Gateway, Replica, ReplicaState, Route, RouteMode, Space

ACK_WAIT_S = 5.0
"""A gateway that does not acknowledge a withdrawal for so long is not waited for: its agent is gone or cut off."""
DRAIN_LIMIT_S = 60.0
"""A drain that finds no quiet moment for so long is given up: the Space is in use."""
FORCED_DRAIN_S = 10.0
"""A sleep that the owner asked for cuts what is still open after so long."""
RESEND_S = 20.0
"""An order that no worker has taken for so long is handed to the broker again."""
BUILD_ATTEMPTS = 3
"""Workers that may take a build before it is given up."""
STATIC_ADDRESS = "unix:caddy.sock"
"""Where the gateway reaches what serves static Spaces, relative to the run folder."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A replica as the runtime sees it."""

    state: str
    """starting, ready or ended."""
    address: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class View:
    """All that a decision about one Space rests on."""

    space: Space
    replicas: Sequence[Replica]
    builds: Sequence[Build]
    """Unfinished ones."""
    route: Route | None
    gateways: Sequence[Gateway]
    """Those heard of lately."""
    seen: Mapping[ReplicaId, Seen] | None
    """None while the runtime does not answer: then nothing is concluded from a replica's absence."""
    policy: IdlePolicy


@dataclass(frozen=True)
class SendBuild:
    build_id: BuildId


@dataclass(frozen=True)
class RequeueBuild:
    build_id: BuildId


@dataclass(frozen=True)
class AbandonBuild:
    build_id: BuildId


@dataclass(frozen=True)
class AskForBuild:
    """No build is under way though the stage says so: the change that should have queued one was cut off."""


@dataclass(frozen=True)
class StartReplica:
    """Make a new replica of the Space's revision, once admitted."""


@dataclass(frozen=True)
class ResumeStart:
    """The row exists, the runtime knows nothing of it: the start was cut off. Repeatable."""

    replica_id: ReplicaId


@dataclass(frozen=True)
class MarkReady:
    replica_id: ReplicaId
    address: str


@dataclass(frozen=True)
class FailStart:
    replica_id: ReplicaId
    reason: str
    detail: str


@dataclass(frozen=True)
class LoseReplica:
    replica_id: ReplicaId
    reason: str
    detail: str


@dataclass(frozen=True)
class StopReplica:
    replica_id: ReplicaId


@dataclass(frozen=True)
class Withdraw:
    route: Route


@dataclass(frozen=True)
class BeginDrain:
    route: Route
    why: str


@dataclass(frozen=True)
class CancelDrain:
    route: Route


@dataclass(frozen=True)
class Sleep:
    route: Route


@dataclass(frozen=True)
class Forget:
    """Nothing of a deleted Space runs any more: remove its row, repository, images and logs."""


Action = (
    SendBuild
    | RequeueBuild
    | AbandonBuild
    | AskForBuild
    | StartReplica
    | ResumeStart
    | MarkReady
    | FailStart
    | LoseReplica
    | StopReplica
    | Withdraw
    | BeginDrain
    | CancelDrain
    | Sleep
    | Forget
)


def make_plan(view: View, now: float) -> tuple[Action, ...]:
    """What to do now for this Space, in order."""
    stage = view.space.stage
    if stage in (Stage.PAUSED, Stage.DELETING, Stage.SLEEPING):
        return _wind_down(view, now)
    actions = [*_plan_builds(view, now), *_check_replicas(view, now)]
    if not actions and _wants_start(view, now):
        actions.append(StartReplica())
    return tuple(actions) or _plan_sleep(view, now)


def acknowledged(gateways: Sequence[Gateway], route: Route, now: float) -> bool:
    """Whether every live gateway has this change in force, or has had ample time."""
    return all(g.acked >= route.generation for g in gateways) or now - route.since >= ACK_WAIT_S


def _plan_builds(view: View, now: float) -> list[Action]:
    if plain(view.space.stage) is not Stage.BUILDING:
        return []
    if not view.builds:
        return [AskForBuild()]
    return [action for build in view.builds if (action := _plan_build(build, now))]


def _plan_build(build: Build, now: float) -> Action | None:
    if build.status is BuildStatus.RUNNING:
        if build.lease_until is None or now < build.lease_until:
            return None
        return AbandonBuild(build.id) if build.attempt >= BUILD_ATTEMPTS else RequeueBuild(build.id)
    if build.sent_at is None or now - build.sent_at >= RESEND_S:
        return SendBuild(build.id)
    return None


def _check_replicas(view: View, now: float) -> list[Action]:
    return [action for replica in view.replicas if (action := _check_replica(view, replica, now))]


def _check_replica(view: View, replica: Replica, now: float) -> Action | None:
    if replica.state is ReplicaState.STOPPING:
        return StopReplica(replica.id) if now >= (replica.stop_after or 0.0) else None
    if replica.address == STATIC_ADDRESS or view.seen is None:
        return None
    seen = view.seen.get(replica.id)
    if replica.state is ReplicaState.STARTING:
        return _check_starting(view.space, replica, seen)
    if seen is None:
        return LoseReplica(replica.id, "vanished", "The replica is gone: the machine or its runner was restarted.")
    return LoseReplica(replica.id, seen.reason, seen.detail) if seen.state == "ended" else None


def _check_starting(space: Space, replica: Replica, seen: Seen | None) -> Action | None:
    if replica.generation < space.generation:
        return StopReplica(replica.id)  # A newer commit or a restart has overtaken it, and needs its place.
    if seen is None:
        return ResumeStart(replica.id)
    if seen.state == "ready":
        return MarkReady(replica.id, seen.address)
    return FailStart(replica.id, seen.reason, seen.detail) if seen.state == "ended" else None


def _wants_start(view: View, now: float) -> bool:
    space = view.space
    if plain(space.stage) is not Stage.APP_STARTING or space.revision_id is None or now < space.start_not_before:
        return False
    if view.seen is None and space.sdk != "static":
        return False
    return not any(
        replica.generation >= space.generation and replica.state is not ReplicaState.STOPPING
        for replica in view.replicas
    )


def _plan_sleep(view: View, now: float) -> tuple[Action, ...]:
    route, space = view.route, view.space
    if route is None or route.address == STATIC_ADDRESS:
        return ()
    if plain(space.stage) is not space.stage:  # A newer revision is on its way: no moment to fall asleep.
        return (CancelDrain(route),) if route.mode is RouteMode.DRAIN else ()
    if route.mode is RouteMode.DRAIN:
        return _plan_drain(view, route, now)
    if route.mode is not RouteMode.SERVE or space.stage in (Stage.BUILDING, Stage.APP_STARTING):
        return ()
    verdict = _idle(view, route, now)
    return (BeginDrain(route, verdict.why),) if isinstance(verdict, FallAsleep) and view.gateways else ()


def _idle(view: View, route: Route, now: float) -> KeepAwake | FallAsleep:
    space = view.space
    ready_at = max((r.ready_at or 0.0 for r in view.replicas if r.id == route.replica_id), default=route.since)
    activity = Activity(ready_at=ready_at, active_at=space.last_active_at, moved_at=space.last_moved_at)
    return decide_idle(activity, view.policy, now)


def _plan_drain(view: View, route: Route, now: float) -> tuple[Action, ...]:
    age, asked = now - route.since, view.space.sleep_asked_at is not None
    quiet = bool(view.gateways) and all(g.quiet.get(route.host) == route.generation for g in view.gateways)
    if asked and (quiet or age >= FORCED_DRAIN_S):
        return (Sleep(route),)
    if quiet and age >= view.policy.reported_within_s:
        # By now everything that came before the marker is known: a request whose news was still on its way when the
        # drain began, and which perhaps left work behind in the app, keeps the Space awake after all.
        return (Sleep(route),) if isinstance(_idle(view, route, now), FallAsleep) else (CancelDrain(route),)
    return (CancelDrain(route),) if age >= DRAIN_LIMIT_S else ()


def _wind_down(view: View, now: float) -> tuple[Action, ...]:
    """Withdraw, wait until no gateway sends anything any more, stop; never the other way round."""
    route = view.route
    if route is not None and route.mode is not RouteMode.GONE:
        return (Withdraw(route),)
    if route is not None and view.replicas and not acknowledged(view.gateways, route, now):
        return ()
    if view.replicas:
        return tuple(StopReplica(replica.id) for replica in view.replicas)
    return (Forget(),) if view.space.stage is Stage.DELETING else ()
