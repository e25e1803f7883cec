"""Holding requests while a Space wakes: one question to the control plane per host, any number of waiting requests.

A request that arrives here found no cluster, a marker, or a replica that refused the connection. Theory of operation:

1. If the route is in force and the replica accepts a connection, the request goes on at once, without the control
   plane. So an app that is up is served whatever else is down.
2. Otherwise the request joins the host's `_Wake`, a task that asks the control plane each second (which heals a lost
   wake and hears of errors) and looks after each push whether the route is in force now.
3. A browser that opens a page does not wait: it gets the waking page as soon as the first answer says "wait".

What it must never do: answer OK before Envoy has acknowledged the cluster, or trust a route whose replica refuses.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.domain.space import RouteMode
from orchestrator.errors import Unavailable
from orchestrator.gateway import metrics, waking_page
from orchestrator.gateway.clusters import APP
from orchestrator.gateway.control import ControlPlane, WakeAnswer
from orchestrator.gateway.probe import accepts
from orchestrator.gateway.pulse import Pulse
from orchestrator.gateway.routes import GatewayRoute, RouteTable
from orchestrator.gateway.waking_page import Reply
from orchestrator.gateway.xds import DiscoveryServer
from orchestrator.settings import Settings

ASK_EVERY_S = 1.0
_PAGE_GRACE_S = 2.0
"""A browser waits this long for a route that the table has already: a page that flashes by helps nobody."""
_LINGER_S = 10.0
"""A wake that nobody waits for any more still asks until it has had one answer, for so long."""
_SHARE_PER_HOST = 4
"""One host may fill a quarter of the places."""
log = structlog.get_logger()


@dataclass(frozen=True)
class Visit:
    """What is known of a held request."""

    host: str
    path: str
    method: str
    navigation: bool
    """A browser opens a page, in a tab or a frame."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a held request; no reply means that it goes on to the app."""

    outcome: str
    reply: Reply | None = None


_PASS = Verdict("passed")


class _Wake:
    """One host on its way up, and who waits for it."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.waiting = 0
        self.began_at = time.monotonic()
        self.answer: WakeAnswer | None = None
        self.asked = False
        """The control plane was asked at least once, whether it answered or not."""
        self.heard = Pulse()
        self.ended: asyncio.Future[WakeAnswer | None] = asyncio.get_running_loop().create_future()
        """None: the app can be reached. An answer: waiting will not help."""


class Holder:
    """Decides about every held request of one gateway."""

    def __init__(
        self,
        settings: Settings,
        *,
        run: Path,
        table: RouteTable,
        discovery: DiscoveryServer,
        control: ControlPlane,
    ) -> None:
        self._settings, self._run = settings, run
        self._table, self._discovery, self._control = table, discovery, control
        self._wakes: dict[str, _Wake] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0
        self._per_host = max(1, settings.hold_requests_max // _SHARE_PER_HOST)

    async def decide(self, visit: Visit) -> Verdict:
        """Return when the request may go on, or with what to answer it."""
        began, outcome = time.monotonic(), "left"
        try:
            verdict = await self._decide(visit)
            outcome = verdict.outcome
            return verdict
        finally:
            metrics.HOLD_SECONDS.labels(outcome).observe(time.monotonic() - began)

    async def _decide(self, visit: Visit) -> Verdict:
        if await self._ready(visit.host):
            return _PASS
        wake = self._wakes.get(visit.host)
        if self._held >= self._settings.hold_requests_max or (wake and wake.waiting >= self._per_host):
            return Verdict("full", waking_page.busy(wake.answer if wake else None, full=True))
        wake = wake or self._begin(visit)
        self._held += 1
        wake.waiting += 1
        metrics.HELD.inc()
        try:
            return await (self._page(wake, visit) if visit.navigation else self._hold(wake, visit))
        finally:
            self._held -= 1
            wake.waiting -= 1
            metrics.HELD.dec()

    async def _hold(self, wake: _Wake, visit: Visit) -> Verdict:
        done, _ = await asyncio.wait({wake.ended}, timeout=self._settings.hold_timeout_s)
        if not done:
            return Verdict("timeout", waking_page.busy(wake.answer, full=False))
        return _verdict(wake.ended.result(), visit)

    async def _page(self, wake: _Wake, visit: Visit) -> Verdict:
        end = time.monotonic() + _PAGE_GRACE_S
        while not wake.ended.done():
            ticket = wake.heard.ticket()
            coming = wake.answer is not None and wake.answer.answer == "serve"
            left = end - time.monotonic()
            if left <= 0 or (wake.asked and not coming):
                return Verdict("page", waking_page.waking(wake.answer, visit.host))
            await wake.heard.wait(ticket, left)
        return _verdict(wake.ended.result(), visit)

    # --- one wake ---------------------------------------------------------------------------------------------------

    def _begin(self, visit: Visit) -> _Wake:
        wake = self._wakes[visit.host] = _Wake(visit)
        task = asyncio.create_task(self._follow(wake))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return wake

    async def _follow(self, wake: _Wake) -> None:
        """Until the app can be reached, waiting makes no sense, or nobody waits."""
        host = wake.visit.host
        result: WakeAnswer | None = None
        try:
            while not self._abandoned(wake):
                result = await self._ask(wake)
                if result is not None or await self._becomes_ready(host, ASK_EVERY_S):
                    break
        except Exception:
            log.exception("wake_failed", host=host)
            result = WakeAnswer(answer="explain", message="The gateway met an error of its own. Try again.")
        finally:
            self._wakes.pop(host, None)
            if not wake.ended.done():
                wake.ended.set_result(result)
            wake.heard.beat()

    async def _ask(self, wake: _Wake) -> WakeAnswer | None:
        """Ask the control plane once; an answer that ends the wake is returned."""
        visit = wake.visit
        try:
            answer = await self._control.wake(
                visit.host, path=visit.path, method=visit.method, dead=await self._dead(visit.host)
            )
        except Unavailable as error:
            if not wake.asked:
                log.warning("wake_not_asked", host=visit.host, reason=str(error))
            answer = None
        wake.asked = True
        if answer is not None and answer.answer in ("explain", "missing"):
            return answer
        wake.answer = answer or wake.answer
        wake.heard.beat()
        return None

    def _abandoned(self, wake: _Wake) -> bool:
        if wake.waiting or not wake.asked:
            return False
        return wake.answer is not None or time.monotonic() - wake.began_at > _LINGER_S

    # --- is it there? -----------------------------------------------------------------------------------------------

    async def _becomes_ready(self, host: str, within_s: float) -> bool:
        end = time.monotonic() + within_s
        while (left := end - time.monotonic()) > 0:
            ticket = self._discovery.changed.ticket()
            if await self._ready(host):
                return True
            await self._discovery.changed.wait(ticket, left)
        return await self._ready(host)

    async def _ready(self, host: str) -> bool:
        route = self._serving(host)
        return route is not None and await accepts(route.address, self._run)

    async def _dead(self, host: str) -> str | None:
        """The address of a replica that refuses connections although its route says SERVE."""
        route = self._serving(host)
        if route is None or await accepts(route.address, self._run):
            return None
        return route.address_text

    def _serving(self, host: str) -> GatewayRoute | None:
        """The route of `host`, if it is SERVE and Envoy has acknowledged it."""
        route = self._table.get(host)
        if route is None or route.mode is not RouteMode.SERVE:
            return None
        return route if self._discovery.in_force(APP + host) else None


def _verdict(answer: WakeAnswer | None, visit: Visit) -> Verdict:
    if answer is None:
        return _PASS
    if answer.answer == "missing":
        return Verdict("missing", waking_page.missing(visit.host, browser=visit.navigation))
    return Verdict("explained", waking_page.explain(answer, visit.host, browser=visit.navigation))
