"""The agent beside Envoy: pushes routes, decides about held requests, watches activity and drains, reports.

It holds nothing that cannot be had again: routes come from the internal API, everything else from Envoy. Killed at
any moment it costs no request but those that are held, because Envoy keeps what it was told last.
"""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
import structlog

from orchestrator.errors import Unavailable
from orchestrator.gateway import metrics, waking_page
from orchestrator.gateway.activity import ActivityBook, News
from orchestrator.gateway.authz import Authorization
from orchestrator.gateway.clusters import host_of
from orchestrator.gateway.control import ControlPlane, Report
from orchestrator.gateway.drain import EnvoyAdmin
from orchestrator.gateway.drain_watch import DrainWatch
from orchestrator.gateway.envoy_config import byte_log_interval_s
from orchestrator.gateway.hold import Holder
from orchestrator.gateway.pulse import Pulse
from orchestrator.gateway.reports import Reports
from orchestrator.gateway.routes import Push, RouteChange, RouteTable
from orchestrator.gateway.xds import DiscoveryServer
from orchestrator.settings import Settings

GATEWAY_ID = "local"
"""One machine has one gateway; its name stays the same over restarts."""
_REPORT_EVERY_S = 1.0
_REPORT_GAP_S = 0.02
"""Changes that come together go out in one report."""
_RECONNECT_MIN_S, _RECONNECT_MAX_S = 0.1, 2.0
_GRPC_OPTIONS = [
    # Envoy pings to find an agent that hangs; gRPC would take that for an attack and close the connection.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", 64 << 20),
]
log = structlog.get_logger()


class Agent:
    """Everything the agent holds, and the loops that keep it true. `run` is the folder of the sockets."""

    def __init__(self, settings: Settings, run: Path) -> None:
        self._run = run
        waking_page.show_way_home(settings.public_url)
        self._pulse = Pulse()
        self._table = RouteTable()
        self._discovery = DiscoveryServer(self._table.resources)
        self._book = ActivityBook(byte_log_interval_s(settings))
        self._control = ControlPlane(run / "internal.sock", GATEWAY_ID)
        self._admin = EnvoyAdmin(run / "envoy-admin.sock")
        holder = Holder(settings, run=run, table=self._table, discovery=self._discovery, control=self._control)
        self._drains = DrainWatch(
            table=self._table,
            discovery=self._discovery,
            admin=self._admin,
            book=self._book,
            idle_tab_s=settings.idle_tab_s,
            passed_at=holder.passed_at,
            changed=self._pulse.beat,
        )
        self._authorization = Authorization(holder, settings.spaces_domain)
        self._reports = Reports(
            self._book, spaces_domain=settings.spaces_domain, interval_s=settings.activity_interval_s
        )
        self._pending: deque[tuple[int, int]] = deque()
        """(number of the push, generation of the table after it), oldest first."""
        self._acked: int | None = None

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve Envoy on `xds.sock` and follow the control plane until `stop` is set."""
        server = grpc.aio.server(options=_GRPC_OPTIONS)
        server.add_generic_rpc_handlers(
            (self._discovery.handler(), self._authorization.handler(), *self._reports.handlers())
        )
        socket = self._run / "xds.sock"
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        socket.chmod(0o600)
        log.info("agent_serves", socket=str(socket))
        loops = [asyncio.create_task(loop) for loop in self._loops()]
        try:
            await asyncio.wait([asyncio.create_task(stop.wait()), *loops], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._close(server, loops)

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        return [self._follow_routes(), self._follow_acks(), self._report_on()]

    async def _close(self, server: grpc.aio.Server, loops: list[asyncio.Task[None]]) -> None:
        self._drains.stop()
        for loop in loops:
            loop.cancel()
        ended = await asyncio.gather(*loops, return_exceptions=True)
        await server.stop(grace=None)
        await self._control.close()
        await self._admin.close()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    # --- routes -----------------------------------------------------------------------------------------------------

    async def _follow_routes(self) -> None:
        """For ever: the stream of routes, again and again with growing pauses."""
        pause = _RECONNECT_MIN_S
        while True:
            try:
                async for change in self._control.routes(self._table.generation):
                    self._take(change)
                    pause = _RECONNECT_MIN_S
            except Unavailable as error:
                log.warning("routes_away", reason=str(error), again_in_s=round(pause, 2))
            await asyncio.sleep(pause)
            pause = min(_RECONNECT_MAX_S, pause * 1.6)

    def _take(self, change: RouteChange) -> None:
        for problem in change.problems:
            log.error("route_not_usable", problem=problem)
        known = self._table.generation
        push = self._table.apply(change)
        number = self._discovery.push(push)
        self._discovery.open()
        if not change.full:
            self._note_activity(push)
        if push or change.generation != known:
            self._pending.append((number, change.generation))
            log.debug("routes_changed", generation=change.generation, put=len(push.put), removed=len(push.remove))
        metrics.ROUTES.set(len(self._table))
        self._drains.follow_table()
        self._discovery.changed.beat()

    def _note_activity(self, push: Push) -> None:
        """Envoy's first load report of a cluster begins with it: a request before that would not be seen."""
        for name in push.put:
            host = host_of(name)
            if host is not None:
                self._book.request(host, time.time())

    async def _follow_acks(self) -> None:
        """Turn what Envoy has acknowledged into a generation of the route table."""
        while True:
            ticket = self._discovery.changed.ticket()
            acked = self._discovery.acked()
            while acked is not None and self._pending and self._pending[0][0] <= acked:
                self._acked = self._pending.popleft()[1]
                self._pulse.beat()
            await self._discovery.changed.wait(ticket, _REPORT_EVERY_S)

    # --- reports ----------------------------------------------------------------------------------------------------

    async def _report_on(self) -> None:
        """A sign of life each second, and at once when something was acknowledged or fell quiet."""
        while True:
            self._book.forget_ended(time.time())
            ticket, news = self._pulse.ticket(), self._book.news()
            try:
                await self._control.report(self._report(news))
            except Unavailable as error:
                log.debug("report_not_sent", reason=str(error))
                await asyncio.sleep(_REPORT_EVERY_S)
                continue
            self._book.confirm(news)
            self._forget_withdrawn(news)
            await self._pulse.wait(ticket, _REPORT_EVERY_S)
            await asyncio.sleep(_REPORT_GAP_S)

    def _report(self, news: News) -> Report:
        connected = self._discovery.acked() is not None
        acked = self._acked if connected else None
        return Report(acked=acked, quiet=dict(self._drains.quiet), active=news.active, moved=news.moved)

    def _forget_withdrawn(self, news: News) -> None:
        for host in {*news.active, *news.moved}:
            if self._table.get(host) is None:
                self._book.forget_host(host)
                metrics.IN_PROGRESS.labels(host).set(0)


async def main(settings: Settings) -> None:
    """Run the agent until SIGTERM or SIGINT. The working folder becomes the run folder: socket paths stay short."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    os.umask(0o077)
    os.chdir(settings.run)
    await Agent(settings, Path()).serve(stop)
