"""Whether a host is quiet: nothing in progress on its replica any more, while a marker keeps new requests away.

The rule (`is_quiet`) is pure: two looks at Envoy's counters, further apart than a connection attempt may take,
nothing in progress in both and no total changed between them. A request that waits for a connection is in no gauge;
it ends within the connect timeout and then moves a total, hence the distance.

A tab that has been idle for very long does not count. The byte log tells it from a used one, but late; so such a tab
is believed in only once the marker has stood for longer than every other open stream needs to make itself seen there.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from orchestrator.errors import Unavailable
from orchestrator.gateway.activity import Tabs
from orchestrator.gateway.clusters import APP, CONNECT_TIMEOUT_S, PRIVATE, Address

WINDOW_SOCKET_S = 0.15
"""A Unix socket connects or fails at once; but a worker of Envoy may hear of the marker a little after Envoy has
acknowledged it, and by so much more on a busy machine."""
WINDOW_TCP_S = CONNECT_TIMEOUT_S + 0.2
_LOOK_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Look:
    """Counters of one app's cluster, added up over its endpoints."""

    at: float
    in_progress: int
    totals: tuple[int, int]
    """Change with each request and with each failed connection."""


def window_s(address: Address) -> float:
    """The least distance between two looks."""
    return WINDOW_SOCKET_S if address.socket else WINDOW_TCP_S


def is_quiet(first: Look, second: Look, *, window_s: float, tabs: Tabs, settled: bool) -> bool:
    """Two looks agree that nothing but long idle tabs is left.

    `settled`: the marker has stood for long enough that every stream still open is in the byte log.
    """
    if second.at - first.at < window_s or first.totals != second.totals:
        return False
    most = max(first.in_progress, second.in_progress)
    if most == 0:
        return True
    return settled and tabs.busy == 0 and most <= tabs.idle


def parse_look(text: str, now: float) -> Look:
    """Read the answer of `/clusters?filter=`. Raises Unavailable if it has no counters: unknown is not zero."""
    counters: Counter[str] = Counter()
    for line in text.splitlines():
        parts = line.rsplit("::", 2)
        if len(parts) == 3 and parts[2].isdigit():
            counters[parts[1]] += int(parts[2])
    if "rq_active" not in counters:
        raise Unavailable("Envoy knows no such cluster.")
    return Look(now, counters["rq_active"], (counters["rq_total"], counters["cx_connect_fail"]))


class EnvoyAdmin:
    """Envoy's admin interface on its Unix socket."""

    def __init__(self, socket: Path) -> None:
        timeout = aiohttp.ClientTimeout(total=_LOOK_TIMEOUT_S)
        self._http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)), timeout=timeout)

    async def look(self, host: str, now: float) -> Look:
        """Counters of the host's app cluster. Raises Unavailable."""
        parameters: Mapping[str, str] = {"filter": f"^({APP}|{PRIVATE}){re.escape(host)}$"}
        try:
            async with self._http.get("http://envoy/clusters", params=parameters) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"Envoy's admin interface does not answer ({error}).") from error
        return parse_look(text, now)

    async def close(self) -> None:
        await self._http.close()
