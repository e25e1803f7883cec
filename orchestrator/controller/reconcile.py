"""One Space: gather a View, make a plan, carry it out. Decisions are in `domain/plan.py`, changes in `flows/`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter, Histogram

from orchestrator.controller.sight import Sight
from orchestrator.domain import plan
from orchestrator.domain.idle import IdlePolicy
from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import ReplicaId
from orchestrator.domain.space import Replica, ReplicaState
from orchestrator.domain.waking import Ask, ask_of
from orchestrator.errors import DormouseError
from orchestrator.flows import collect_garbage, dispatch_build, fall_asleep, follow_replica, start_replica
from orchestrator.flows.context import Tools
from orchestrator.ports import signals
from orchestrator.ports.build_queue import BuildQueue
from orchestrator.ports.runtime import Runtime, StaticSites

log = structlog.get_logger()
GATEWAY_ALIVE_S = 10.0
REPORT_DELAY_S = 2.0
"""A gateway reports each second what Envoy told it."""
STOP_GRACE_S, DELETED_GRACE_S = 10.0, 1.0
ROUNDS_MAX = 6
"""A plan that is carried out leads to another one at once; this bounds how many before others get their turn."""
WAKES = Histogram(
    "dormouse_wake_seconds",
    "Phases of a wake: `line` from the visit to the start of a replica, `start` from there to its route",
    ["sdk", "phase"],
    buckets=(0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 8, 13, 21, 34, 60, 120),
)
STARTS = Counter("dormouse_replica_starts_total", "Starts of replicas by outcome", ["outcome"])
SLEEPS = Counter("dormouse_sleeps_total", "Sleeps by outcome", ["outcome"])


@dataclass
class Reconciler:
    """Carries out plans. One instance per active controller; calls for one Space never overlap."""

    tools: Tools
    runtime: Runtime
    sites: StaticSites
    queue: BuildQueue
    sight: Sight
    ask: Callable[[Ask], None]
    """Puts a Space in the line for a start."""
    stopping: set[ReplicaId] = field(default_factory=set)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def reconcile(self, space_id: str) -> None:
        """Bring one Space closer to what is wanted. Errors are logged; the next round tries again."""
        for _ in range(ROUNDS_MAX):
            view = await asyncio.to_thread(self.view, space_id)
            actions = plan.make_plan(view, time.time()) if view else ()
            if not view or not actions:
                return
            for action in actions:
                try:
                    await self._carry_out(view, action)
                except DormouseError as error:
                    log.warning(
                        "action_failed", space=view.space.full_name, action=type(action).__name__, why=str(error)
                    )
                    return
            if all(isinstance(action, plan.StartReplica | plan.StopReplica) for action in actions):
                return  # These go on in the background.

    def view(self, space_id: str) -> plan.View | None:
        """Everything a decision about the Space rests on; None if there is no such Space."""
        store, settings = self.tools.store, self.tools.settings
        space = store.space(space_id)
        if space is None:
            return None
        sleep_after = settings.sleep_time_s if space.sleep_time_s is None else space.sleep_time_s
        builds = [build for build in store.unfinished_builds() if build.space_id == space_id]
        return plan.View(
            space=space,
            replicas=store.replicas(space_id),
            builds=builds,
            route=store.route(space.host),
            gateways=store.gateways(time.time() - GATEWAY_ALIVE_S),
            seen=self.sight.seen,
            policy=IdlePolicy(
                sleep_after_s=sleep_after,
                idle_tab_s=settings.idle_tab_s,
                reported_within_s=settings.activity_interval_s + REPORT_DELAY_S,
            ),
        )

    async def start(self, space_id: str) -> None:
        """Start a replica of an admitted Space, if it is still wanted."""
        view = await asyncio.to_thread(self.view, space_id)
        if view is None or plan.StartReplica() not in plan.make_plan(view, time.time()):
            return
        now = time.time()
        if view.space.sdk == "static":
            await asyncio.to_thread(self._publish_static, view, now)
            return
        replica = await start_replica.start_replica(self.tools, self.runtime, view.space, now=now)
        if replica is not None:
            self.sight.started(replica.id, space_id, now)
            STARTS.labels("begun").inc()

    async def _carry_out(self, view: plan.View, action: plan.Action) -> None:
        match action:
            case plan.StartReplica():
                self.ask(ask_of(view.space))
            case plan.ResumeStart(replica_id):
                replica = _replica(view, replica_id)
                await start_replica.resume_start(self.tools, self.runtime, view.space, replica)
                self.sight.started(replica_id, view.space.id, time.time())
            case plan.StopReplica(replica_id):
                self._stop_soon(view, _replica(view, replica_id))
            case plan.Forget():
                await asyncio.to_thread(self._forget, view)
            case _:
                await asyncio.to_thread(self._change, view, action, time.time())

    def _change(self, view: plan.View, action: plan.Action, now: float) -> None:
        tools, space = self.tools, view.space
        match action:
            case plan.SendBuild(build_id):
                build = next(b for b in view.builds if b.id == build_id)
                dispatch_build.dispatch_build(tools, self.queue, space, build, now=now)
            case plan.RequeueBuild(build_id):
                tools.store.build_requeued(build_id, now=now)
            case plan.AbandonBuild(build_id):
                build = next(b for b in view.builds if b.id == build_id)
                dispatch_build.abandon_build(tools, space, build, now=now)
            case plan.AskForBuild():
                if space.sha is not None:
                    tools.store.request_build(space.id, space.sha, factory=False, now=now)
            case plan.MarkReady(replica_id, address):
                became = follow_replica.replica_ready(tools, space, _replica(view, replica_id), address, now=now)
                _count_start(became, space.sdk)
            case plan.FailStart(replica_id, reason, detail):
                replica = _replica(view, replica_id)
                _count_start(follow_replica.start_failed(tools, space, replica, reason, detail, now=now), space.sdk)
            case plan.LoseReplica(replica_id, reason, detail):
                replica = _replica(view, replica_id)
                _count_start(follow_replica.replica_lost(tools, space, replica, reason, detail, now=now), space.sdk)
            case plan.Withdraw(route):
                fall_asleep.withdraw(tools, route, now=now)
            case plan.BeginDrain(route, why):
                log.info("sleep_begins", space=space.full_name, why=why)
                fall_asleep.begin_drain(tools, route, now=now)
            case plan.CancelDrain(route):
                SLEEPS.labels("cancelled").inc()
                fall_asleep.cancel_drain(tools, space, route, now=now)
            case plan.Sleep(route):
                slept = fall_asleep.fall_asleep(tools, space, route, now=now)
                SLEEPS.labels("slept" if slept else "cancelled").inc()
                log.info("sleep_ended", space=space.full_name, slept=slept, took_s=round(now - route.since, 3))

    def _publish_static(self, view: plan.View, now: float) -> None:
        """A static Space's replica is a link to its snapshot: published, it is ready."""
        space, tools = view.space, self.tools
        image = start_replica.load_revision(tools, space.revision_id or "").image
        address = self.sites.publish(space.host, str(image["snapshot"]))
        replica = start_replica.new_replica(space, now=now)
        if tools.store.add_replica(replica):
            _count_start(follow_replica.replica_ready(tools, space, replica, address, now=now), "static")

    def _stop_soon(self, view: plan.View, replica: Replica) -> None:
        """Stop in the background: an app may take its time, and a visit must not wait for it."""
        if replica.id in self.stopping:
            return
        self.stopping.add(replica.id)
        task = asyncio.create_task(self._stop(view, replica))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _stop(self, view: plan.View, replica: Replica) -> None:
        try:
            if replica.address == plan.STATIC_ADDRESS:
                if view.space.stage in (Stage.PAUSED, Stage.DELETING):
                    await asyncio.to_thread(self.sites.withdraw, view.space.host)
            else:
                update = self.tools.store.update_replica
                await asyncio.to_thread(update, replica.id, state=ReplicaState.STOPPING, stop_after=0.0)
                grace_s = DELETED_GRACE_S if view.space.stage is Stage.DELETING else STOP_GRACE_S
                await self.runtime.stop(replica.id, grace_s)
                await self.runtime.forget(replica.id)
            await asyncio.to_thread(self.tools.store.remove_replica, replica.id)
            log.info("replica_stopped", space=view.space.full_name, replica=replica.id)
        except DormouseError as error:
            log.warning("stop_failed", space=view.space.full_name, replica=replica.id, why=str(error))
        finally:
            self.stopping.discard(replica.id)
        await self.tools.signals.send(signals.CONTROLLER, view.space.id)

    def _forget(self, view: plan.View) -> None:
        self.sites.withdraw(view.space.host)
        collect_garbage.remove_space(self.tools, view.space)


def _replica(view: plan.View, replica_id: ReplicaId) -> Replica:
    return next(replica for replica in view.replicas if replica.id == replica_id)


def _count_start(became: follow_replica.Became, sdk: str) -> None:
    STARTS.labels(became.outcome).inc()
    if became.waited_s is not None and became.started_s is not None:
        WAKES.labels(sdk or "unknown", "line").observe(became.waited_s)
        WAKES.labels(sdk or "unknown", "start").observe(became.started_s)
