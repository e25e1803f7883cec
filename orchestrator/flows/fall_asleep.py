"""Idle -> drained, withdrawn, stopped. Each step is a compare-and-set on the route's generation.

1. `begin_drain`: the marker stands; new requests are held. A held request turns it back (flows/visit.py).
2. Every live gateway reports that nothing is in progress (orchestrator/gateway/drain.py).
3. `fall_asleep`: in one transaction the route is withdrawn and the Space sleeps; from here a request wakes it.
4. The planner stops the replica once every gateway has acknowledged the withdrawal.
"""

from orchestrator.domain.space import Route, RouteMode, Space
from orchestrator.flows.context import Tools
from orchestrator.flows.tell import tell
from orchestrator.ports import signals


def begin_drain(tools: Tools, route: Route, *, now: float) -> bool:
    """False if the route has moved on."""
    return _change(tools, route, RouteMode.DRAIN, now)


def cancel_drain(tools: Tools, space: Space, route: Route, *, now: float) -> bool:
    """The Space is in use after all; it is looked at again after another sleep time."""
    tools.store.update_space(space.id, sleep_asked_at=None)
    tools.store.touch({route.host: now}, {route.host: now})
    return _change(tools, route, RouteMode.SERVE, now)


def withdraw(tools: Tools, route: Route, *, now: float) -> bool:
    """Hold everything from now on, whatever is in progress: for pause and delete."""
    return _change(tools, route, RouteMode.GONE, now)


def fall_asleep(tools: Tools, space: Space, route: Route, *, now: float) -> bool:
    """False if a request came in time."""
    slept = tools.store.fall_asleep(space.id, route.host, expect=route.generation, now=now)
    if slept:
        tell(tools, space.id)
    tools.signals.send_soon(signals.ROUTES)
    return slept


def _change(tools: Tools, route: Route, mode: RouteMode, now: float) -> bool:
    changed = tools.store.change_route(route.host, expect=route.generation, mode=mode, now=now)
    tools.signals.send_soon(signals.ROUTES)
    return changed is not None
