"""Watches every host that is draining and knows which of them are quiet.

A host is looked at for as long as its drain stands, quiet or not: a request that slips in afterwards takes the word
back. The decision itself is `drain.is_quiet`; to stop the replica is the control plane's.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from orchestrator.errors import Unavailable
from orchestrator.gateway.activity import ActivityBook, Tabs
from orchestrator.gateway.clusters import MARKER
from orchestrator.gateway.drain import EnvoyAdmin, Look, is_quiet, window_s
from orchestrator.gateway.routes import GatewayRoute, RouteTable
from orchestrator.gateway.xds import DiscoveryServer

PASSED_SETTLE_S = 0.5
"""A held request that was let through is in no counter until Envoy has the answer and has chosen its cluster."""
_PAUSE_MAX_S = 1.0
_PAUSE_GROWTH = 1.2
_SETTLE_INTERVALS = 1.5
_SETTLE_EXTRA_S = 2.5
_NO_TABS = Tabs(0, 0)
log = structlog.get_logger()


class DrainWatch:
    """`quiet` maps a host to the generation of the drain for which nothing is in progress any more."""

    def __init__(
        self,
        *,
        table: RouteTable,
        discovery: DiscoveryServer,
        admin: EnvoyAdmin,
        book: ActivityBook,
        idle_tab_s: float,
        passed_at: Callable[[str], float],
        changed: Callable[[], None],
    ) -> None:
        self.quiet: dict[str, int] = {}
        self._table, self._discovery, self._admin, self._book = table, discovery, admin, book
        self._idle_tab_s, self._passed_at = idle_tab_s, passed_at
        self._changed = changed
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    def follow_table(self) -> None:
        """Start and stop watching, so that exactly the draining hosts are watched."""
        wanted = {(route.host, route.generation): route for route in self._table.draining()}
        for key in [key for key in self._tasks if key not in wanted]:
            self._tasks.pop(key).cancel()
            self._say(key[0], key[1], quiet=False)
        for key, route in wanted.items():
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._watch(route))

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _watch(self, route: GatewayRoute) -> None:
        while True:
            try:
                await self._marker_stands(route.host)
                await self._look_on(route)
            except Unavailable as error:
                log.warning("drain_not_seen", host=route.host, reason=str(error))
            except Exception:
                log.exception("drain_watch_failed", host=route.host)
            self._say(route.host, route.generation, quiet=False)
            await asyncio.sleep(0.25)

    async def _marker_stands(self, host: str) -> None:
        ticket = self._discovery.changed.ticket()
        while not self._discovery.in_force(MARKER + host):
            await self._discovery.changed.wait(ticket, 1.0)
            ticket = self._discovery.changed.ticket()

    async def _look_on(self, route: GatewayRoute) -> None:
        """Look again and again, ever less often, while the marker stands; returns when it does not."""
        window = window_s(route.address)
        stands_since, pause = time.monotonic(), window
        before = await self._look(route.host)
        while self._discovery.in_force(MARKER + route.host):
            await asyncio.sleep(pause + 0.001)
            after = await self._look(route.host)
            settled = after.at - stands_since > self._book.interval_s * _SETTLE_INTERVALS + _SETTLE_EXTRA_S
            tabs = self._tabs(route.host) if after.in_progress else _NO_TABS
            arrived = before.at - self._passed_at(route.host) >= PASSED_SETTLE_S
            quiet = arrived and is_quiet(before, after, window_s=window, tabs=tabs, settled=settled)
            self._say(route.host, route.generation, quiet=quiet)
            before, pause = after, min(_PAUSE_MAX_S, max(window, pause * _PAUSE_GROWTH))

    async def _look(self, host: str) -> Look:
        """The time is taken before the question: two looks are then at least as far apart as their times say."""
        asked_at = time.monotonic()
        return await self._admin.look(host, asked_at)

    def _tabs(self, host: str) -> Tabs:
        return self._book.tabs(host, idle_after_s=self._idle_tab_s, now=time.time())

    def _say(self, host: str, generation: int, *, quiet: bool) -> None:
        known = self.quiet.get(host)
        if quiet and known != generation:
            self.quiet[host] = generation
        elif not quiet and known == generation:
            del self.quiet[host]
        else:
            return
        self._changed()
