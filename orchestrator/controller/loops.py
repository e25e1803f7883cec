"""Which Space to look at, and when: signals cut the wait, the period guarantees the repair."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from prometheus_client import Gauge

from orchestrator.controller.admission import Admission
from orchestrator.controller.reconcile import Reconciler
from orchestrator.controller.sight import Sight
from orchestrator.domain.lifecycle import MOVING
from orchestrator.domain.names import ReplicaId
from orchestrator.errors import DormouseError
from orchestrator.flows.collect_garbage import collect_garbage
from orchestrator.flows.context import Tools
from orchestrator.flows.receive_commit import pick_up_pushes
from orchestrator.ports import signals
from orchestrator.ports.build_queue import BuildQueue
from orchestrator.ports.runtime import Runtime, StaticSites

log = structlog.get_logger()
TICK_S = 1.0
LIST_S = 2.0
HOUSEKEEPING_S = 15.0
AT_ONCE = 32
ROUTES_KEPT_S = 600.0
SPACES = Gauge("dormouse_spaces", "Spaces by stage", ["stage"], multiprocess_mode="mostrecent")
QUEUED = Gauge("dormouse_builds_unfinished", "Builds queued or running", multiprocess_mode="mostrecent")


class Loops:
    """Everything one active controller does, as concurrent loops over a set of Spaces to look at."""

    def __init__(self, tools: Tools, runtime: Runtime, sites: StaticSites, queue: BuildQueue) -> None:
        self._tools, self._runtime = tools, runtime
        self._sight = Sight()
        settings = tools.settings
        self._admission = Admission(settings.wake_rate_per_s, settings.wake_burst, self._start)
        self._reconciler = Reconciler(tools, runtime, sites, queue, self._sight, self._admission.ask)
        self._waiting: set[str] = set()
        self._orphans: set[ReplicaId] = set()
        self._listing = asyncio.Lock()
        self._busy: set[str] = set()
        self._news = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for loop in (self._hear, self._watch, self._work, self._admission.run):
                    group.create_task(loop())
                for period, step in ((TICK_S, self._tick), (LIST_S, self._list), (HOUSEKEEPING_S, self._housekeep)):
                    group.create_task(self._periodic(period, step))
        finally:
            # Who has lost the lease must not go on, in the background either.
            for task in (*self._tasks, *self._admission.tasks, *self._reconciler.tasks):
                task.cancel()

    def look(self, space_id: str) -> None:
        """Look at this Space soon."""
        self._waiting.add(space_id)
        self._news.set()

    async def _start(self, space_id: str) -> None:
        try:
            await self._reconciler.start(space_id)
        except DormouseError as error:
            log.warning("start_not_possible", space_id=space_id, why=str(error))
        self.look(space_id)

    async def _hear(self) -> None:
        async for channel, payload in self._tools.signals.listen(signals.CONTROLLER):
            if channel and payload:
                self.look(payload)
            else:
                await self._safely(self._tick)

    async def _watch(self) -> None:
        while True:
            try:
                async for observed in self._runtime.watch():
                    self._sight.changed(observed, time.time())
                    self.look(observed.space_id)
            except DormouseError as error:
                log.debug("watch_ended", why=str(error))
            self._sight.lost_contact()
            await asyncio.sleep(0.2)
            await self._safely(self._list)

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            for space_id in [item for item in self._waiting if item not in self._busy]:
                self._waiting.discard(space_id)
                self._busy.add(space_id)
                self._soon(self._one(space_id))

    async def _one(self, space_id: str) -> None:
        try:
            async with self._slots:
                await self._reconciler.reconcile(space_id)
        except Exception:
            log.exception("reconcile_failed", space_id=space_id)
        finally:
            self._busy.discard(space_id)
            if space_id in self._waiting:
                self._news.set()

    async def _tick(self) -> None:
        for space_id in await asyncio.to_thread(self._in_motion):
            self.look(space_id)

    def _in_motion(self) -> set[str]:
        """Spaces that move or hold something; sleeping ones cost nothing here."""
        store = self._tools.store
        moving = {space.id for space in store.spaces_in(MOVING)}
        return moving | {replica.space_id for replica in store.replicas()}

    async def _list(self) -> None:
        async with self._listing:
            await self._list_once()

    async def _list_once(self) -> None:
        asked_at = time.time()
        try:
            listed = await self._runtime.list()
        except DormouseError:
            self._sight.lost_contact()
            raise
        for space_id in self._sight.listed(listed, asked_at):
            self.look(space_id)
        wanted = {replica.id for replica in await asyncio.to_thread(self._tools.store.replicas)}
        stop, forget = self._sight.orphans(wanted)
        for replica_id in stop:
            if replica_id not in self._orphans:
                self._orphans.add(replica_id)
                self._soon(self._stop_orphan(replica_id))
        for replica_id in forget:
            await self._runtime.forget(replica_id)

    async def _stop_orphan(self, replica_id: ReplicaId) -> None:
        """In the background: a replica may take its time to end, and the others must not wait for it."""
        log.warning("orphan_stopped", replica=replica_id)
        try:
            await self._runtime.stop(replica_id)
        except DormouseError as error:
            log.warning("orphan_not_stopped", replica=replica_id, why=str(error))
        finally:
            self._orphans.discard(replica_id)

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _housekeep(self) -> None:
        now = time.time()
        await asyncio.to_thread(self._tools.store.prune_routes, now - ROUTES_KEPT_S)
        await asyncio.to_thread(pick_up_pushes, self._tools, now=now)
        await asyncio.to_thread(collect_garbage, self._tools, now=now)
        counts = await asyncio.to_thread(self._tools.store.count_by_stage)
        for stage, count in counts.items():
            SPACES.labels(stage.value).set(count)
        QUEUED.set(len(await asyncio.to_thread(self._tools.store.unfinished_builds)))

    async def _periodic(self, period_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._safely(step)
            await asyncio.sleep(period_s)

    async def _safely(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except DormouseError as error:
            log.debug("round_skipped", step=step.__name__, why=str(error))
        except Exception:
            log.exception("round_failed", step=step.__name__)
