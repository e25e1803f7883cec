"""Holding requests while a Space wakes: one question to the control plane per host, any number of waiting requests.

A request that arrives here found no cluster, a marker, or a replica that refused the connection. Theory of operation:

1. If the route is in force and the replica accepts a connection, the request goes on at once, without the control
   plane. So an app that is up is served whatever else is down.
2. Otherwise the request joins the host's `_Wake`, a task that asks the control plane each second (which heals a lost
   wake and hears of errors) and looks after each push whether the route is in force now.
3. A browser that opens a page does not wait: it gets the waking page as soon as the first answer says "wait".
4. Every request for a private Space comes through here. Visitors with other credentials have a `_Wake` of their own,
   so that nobody is told what was answered to another. What has opened the Space does so for a minute (`Admitted`).

What it must never do: answer OK before Envoy has acknowledged the cluster, trust a route whose replica refuses, or
say anything of a private Space to a visitor whom the control plane does not know.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from orchestrator.domain.credentials import NOTHING_SHOWN, Credentials
from orchestrator.domain.space import RouteMode
from orchestrator.errors import Unavailable
from orchestrator.gateway import metrics, waking_page
from orchestrator.gateway.admitted import Admitted, digest
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
_PUBLIC_KNOWN_S = 2.0
"""For so long after an answer all visitors of a sleeping public Space are one audience; each answer renews it."""
log = structlog.get_logger()


@dataclass(frozen=True)
class Visit:
    """What is known of a held request."""

    host: str
    path: str
    method: str
    navigation: bool
    """A browser opens a page, in a tab or a frame."""
    credentials: Credentials = NOTHING_SHOWN


@dataclass(frozen=True)
class Verdict:
    """What becomes of a held request; no reply means that it goes on to the app."""

    outcome: str
    reply: Reply | None = None
    admitted: bool = False
    """The visitor may see this private Space."""
    signed: bool = False
    """The signed token in the address is what has opened it."""


_PASS = Verdict("passed")
_PASSED_MAX = 10_000
_EVERYBODY = b""
"""The audience of a public Space, whatever its visitors show."""


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
        self._wakes: dict[tuple[str, bytes], _Wake] = {}
        """By host and audience."""
        self._waiting: Counter[str] = Counter()
        self._admitted = Admitted()
        self._public_until: dict[str, float] = {}
        """Hosts without a route that the control plane has just called public."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._passed: dict[str, float] = {}
        self._held = 0
        self._per_host = max(1, settings.hold_requests_max // _SHARE_PER_HOST)

    async def decide(self, visit: Visit) -> Verdict:
        """Return when the request may go on, or with what to answer it."""
        began, outcome = time.monotonic(), "left"
        try:
            verdict = await self._decide(visit)
            outcome = verdict.outcome
            if verdict.reply is None:
                self._remember_passed(visit.host)
            return self._with_admission(visit, verdict)
        finally:
            metrics.HOLD_SECONDS.labels(outcome).observe(time.monotonic() - began)

    def passed_at(self, host: str) -> float:
        """When a held request for `host` was last let through (monotonic seconds); 0 if not lately."""
        return self._passed.get(host, 0.0)

    def _remember_passed(self, host: str) -> None:
        now = time.monotonic()
        if len(self._passed) >= _PASSED_MAX:
            self._passed = {name: at for name, at in self._passed.items() if now - at < _LINGER_S}
        self._passed[host] = now

    async def _decide(self, visit: Visit) -> Verdict:
        asks_anew = bool(visit.credentials.signed) and not self._knows(visit.host, visit.credentials.signed)
        if not asks_anew and await self._reachable(visit):
            return _PASS
        key = (visit.host, self._audience(visit))
        wake = self._wakes.get(key)
        if self._held >= self._settings.hold_requests_max or self._waiting[visit.host] >= self._per_host:
            return Verdict("full", waking_page.busy(wake.answer if wake else None, full=True))
        wake = wake or self._begin(key, visit)
        self._held += 1
        self._waiting[visit.host] += 1
        wake.waiting += 1
        metrics.HELD.inc()
        try:
            return await (self._page(wake, visit) if visit.navigation else self._hold(wake, visit))
        finally:
            self._held -= 1
            self._waiting[visit.host] -= 1
            if not self._waiting[visit.host]:
                del self._waiting[visit.host]
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

    def _begin(self, key: tuple[str, bytes], visit: Visit) -> _Wake:
        # What the first of everybody shows must not decide what all others get.
        visit = visit if key[1] != _EVERYBODY else replace(visit, credentials=NOTHING_SHOWN)
        wake = self._wakes[key] = _Wake(visit)
        task = asyncio.create_task(self._follow(key, wake))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return wake

    async def _follow(self, key: tuple[str, bytes], wake: _Wake) -> None:
        """Until the app can be reached, waiting makes no sense, or nobody waits."""
        result: WakeAnswer | None = None
        try:
            while not self._abandoned(wake):
                result = await self._ask(wake)
                if result is not None or await self._becomes_ready(wake.visit, ASK_EVERY_S):
                    break
        except Exception:
            log.exception("wake_failed", host=wake.visit.host)
            result = WakeAnswer(answer="explain", message="The gateway met an error of its own. Try again.")
        finally:
            self._wakes.pop(key, None)
            if not wake.ended.done():
                wake.ended.set_result(result)
            wake.heard.beat()

    async def _ask(self, wake: _Wake) -> WakeAnswer | None:
        """Ask the control plane once; an answer that ends the wake is returned."""
        visit = wake.visit
        try:
            answer = await self._control.wake(
                visit.host,
                path=visit.path,
                method=visit.method,
                dead=await self._dead(visit.host),
                credentials=visit.credentials.shown,
            )
            self._note(visit, answer)
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

    async def _becomes_ready(self, visit: Visit, within_s: float) -> bool:
        end = time.monotonic() + within_s
        while (left := end - time.monotonic()) > 0:
            ticket = self._discovery.changed.ticket()
            if await self._reachable(visit):
                return True
            await self._discovery.changed.wait(ticket, left)
        return await self._reachable(visit)

    async def _reachable(self, visit: Visit) -> bool:
        """The replica answers, and this visitor may see it."""
        route = self._serving(visit.host)
        if route is None or (route.private and not self._knows(visit.host, *visit.credentials.shown)):
            return False
        return await accepts(route.address, self._run)

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
        return route if self._discovery.in_force(route.cluster) else None

    # --- who may see it ---------------------------------------------------------------------------------------------

    def _audience(self, visit: Visit) -> bytes:
        """Visitors with one audience get one answer. A Space that is not known to be public may be private."""
        route = self._table.get(visit.host)
        public = not route.private if route else self._public_until.get(visit.host, 0.0) > time.monotonic()
        shown = visit.credentials.shown
        return _EVERYBODY if public or not shown else digest(*shown)

    def _note(self, visit: Visit, answer: WakeAnswer) -> None:
        shown, now = visit.credentials.shown, time.monotonic()
        if answer.private and answer.opened_by is not None and answer.opened_by < len(shown):
            self._admitted.allow(visit.host, shown[answer.opened_by], now)
        self._public_until = {host: until for host, until in self._public_until.items() if until > now}
        if answer.answer != "missing" and not answer.private:
            self._public_until[visit.host] = now + _PUBLIC_KNOWN_S

    def _knows(self, host: str, *credentials: str) -> bool:
        return self._admitted.allows(host, credentials, time.monotonic())

    def _with_admission(self, visit: Visit, verdict: Verdict) -> Verdict:
        if verdict.outcome == "missing" or not self._knows(visit.host, *visit.credentials.shown):
            return verdict
        signed = visit.credentials.signed
        return replace(verdict, admitted=True, signed=bool(signed) and self._knows(visit.host, signed))


def _verdict(answer: WakeAnswer | None, visit: Visit) -> Verdict:
    if answer is None:
        return _PASS
    if answer.answer == "missing":
        return Verdict("missing", waking_page.missing(visit.host, browser=visit.navigation))
    return Verdict("explained", waking_page.explain(answer, visit.host, browser=visit.navigation))
