"""The agent's own copy of the route table, and what each change of it asks of Envoy. Pure.

Only awake Spaces are in it. `apply` returns the resources that differ, in one push: a wake sets the cluster and
removes a stale marker together, a sleep removes both together. A route that has not changed is never pushed again,
because Envoy's counters of live streams do not survive that.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.space import RouteMode
from orchestrator.errors import Invalid
from orchestrator.gateway.clusters import (
    APP,
    MARKER,
    PRIVATE,
    Address,
    Resource,
    app_name,
    app_resource,
    marker_resource,
    parse_address,
)


@dataclass(frozen=True)
class GatewayRoute:
    """One row of the route table, as far as a gateway needs it."""

    host: str
    mode: RouteMode
    address: Address
    address_text: str
    generation: int
    private: bool = False
    """Only those may visit whom the control plane lets."""

    @property
    def cluster(self) -> str:
        """Name of the cluster that leads to its replica."""
        return app_name(self.host, private=self.private)


@dataclass(frozen=True)
class RouteChange:
    """One line of the stream: everything up to `generation`, or the whole table if `full`."""

    generation: int
    full: bool = False
    routes: tuple[GatewayRoute, ...] = ()
    problems: tuple[str, ...] = ()
    """Rows that could not be read; they are left out, and must not stop the others."""


@dataclass(frozen=True)
class Push:
    """What Envoy is to be told, all in one answer."""

    put: Mapping[str, Resource] = field(default_factory=dict)
    remove: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.put or self.remove)


def parse_change(line: bytes) -> RouteChange:
    """Read one line of the route stream. Raises Invalid for a line that is none at all."""
    try:
        data = json.loads(line)
        generation, full, rows = int(data["generation"]), bool(data.get("full")), list(data["routes"])
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"The internal API sent a line that is no change of routes ({error}).") from error
    routes: list[GatewayRoute] = []
    problems: list[str] = []
    for row in rows:
        try:
            routes.append(_parse_route(row))
        except (Invalid, ValueError, KeyError, TypeError) as error:
            problems.append(f"{row.get('host') if isinstance(row, dict) else row!r}: {error}"[:300])
    return RouteChange(generation, full, tuple(routes), tuple(problems))


def _parse_route(row: Mapping[str, Any]) -> GatewayRoute:
    mode = RouteMode(row["mode"])
    text = str(row.get("address") or "")
    address = Address() if mode is RouteMode.GONE else parse_address(text)
    # A row that does not say who may visit is shown to nobody.
    private = row.get("private") is not False
    return GatewayRoute(str(row["host"]), mode, address, text, int(row["generation"]), private)


class RouteTable:
    """Routes by host and the resources that stand for them."""

    def __init__(self) -> None:
        self.generation = -1
        """Position in the order of all changes; -1 until the whole table has been seen once."""
        self.resources: dict[str, Resource] = {}
        self._routes: dict[str, GatewayRoute] = {}

    def get(self, host: str) -> GatewayRoute | None:
        return self._routes.get(host)

    def draining(self) -> list[GatewayRoute]:
        return [route for route in self._routes.values() if route.mode is RouteMode.DRAIN]

    def __len__(self) -> int:
        return len(self._routes)

    def apply(self, change: RouteChange) -> Push:
        """Take a change over and say what differs for Envoy."""
        if change.full:
            listed = {route.host for route in change.routes}
            self._forget(host for host in list(self._routes) if host not in listed)
        touched = set(self._stale(change)) | {route.host for route in change.routes}
        for route in change.routes:
            self._take(route)
        self.generation = change.generation
        return self._difference(touched)

    def _forget(self, hosts: Iterable[str]) -> None:
        for host in hosts:
            del self._routes[host]

    def _stale(self, change: RouteChange) -> Iterable[str]:
        """Hosts that have resources but no route any more, after a whole table."""
        if not change.full:
            return []
        return {name.split("/", 1)[1] for name in self.resources} - set(self._routes)

    def _take(self, route: GatewayRoute) -> None:
        if route.mode is RouteMode.GONE:
            self._routes.pop(route.host, None)
        else:
            self._routes[route.host] = route

    def _difference(self, hosts: Iterable[str]) -> Push:
        put: dict[str, Resource] = {}
        remove: set[str] = set()
        for host in hosts:
            wanted = _wanted(self._routes.get(host))
            for name in (APP + host, PRIVATE + host, MARKER + host):
                resource, present = wanted.get(name), self.resources.get(name)
                if resource is None and present is not None:
                    remove.add(name)
                    del self.resources[name]
                elif resource is not None and (present is None or present.version != resource.version):
                    put[name] = self.resources[name] = resource
        return Push(put, frozenset(remove))


def _wanted(route: GatewayRoute | None) -> dict[str, Resource]:
    if route is None:
        return {}
    resources = [app_resource(route.host, route.address, private=route.private)]
    if route.mode is RouteMode.DRAIN:
        resources.append(marker_resource(route.host))
    return {resource.name: resource for resource in resources}
