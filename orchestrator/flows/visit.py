"""A request is held for a host -> a wake is asked for, or the reason why not is told.

May be called any number of times by any number of gateways: only the first call of a sleep changes anything.
"""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.domain.lifecycle import VISITOR, Answer, Event, ImpossibleTransition, Stage
from orchestrator.domain.space import Route, RouteMode, Space
from orchestrator.errors import Conflict
from orchestrator.flows.context import Tools
from orchestrator.flows.tell import tell
from orchestrator.ports import signals


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What the gateway does with the request."""

    answer: str
    """serve, wait, explain or missing."""
    space: Space | None = None
    message: str = ""
    retry_after_s: float = 2.0


_MESSAGES = {
    Stage.PAUSED: "This Space is paused. Its owner has to restart it.",
    Stage.NO_APP_FILE: "This Space has no app yet: its owner has to push one.",
    Stage.CONFIG_ERROR: "The configuration of this Space cannot be used; its owner has to mend it.",
    Stage.BUILD_ERROR: "The last build of this Space failed; its owner has to mend it.",
    Stage.RUNTIME_ERROR: "This Space failed to start; its owner has to mend or restart it.",
}


def nobody(space: Space) -> bool:
    """Lets no visitor of a private Space in."""
    return False


def visit(
    tools: Tools, host: str, *, dead: str | None = None, may_read: Callable[[Space], bool] = nobody, now: float
) -> Visit:
    """Decide what a visitor of `host` gets. `dead` is an address that refused though the route names it.

    A private Space is missing, and is not woken, for a visitor who may not read it.
    """
    space = tools.store.space_by_host(host)
    if space is None or VISITOR[space.stage] is Answer.MISSING:
        return Visit(answer="missing")
    if space.visibility != "public" and not may_read(space):
        return Visit(answer="missing")
    route = tools.store.route(host)
    if route is not None and route.mode is RouteMode.DRAIN:
        route = _cancel_drain(tools, space, route, now)
    if route is not None and route.mode is RouteMode.SERVE:
        if dead is not None and dead == route.address:
            tools.signals.send_soon(signals.CONTROLLER, space.id)
            return Visit(answer="wait", space=space)
        return Visit(answer="serve", space=space)
    if VISITOR[space.stage] is Answer.EXPLAIN:
        return Visit(answer="explain", space=space, message=_MESSAGES[space.stage], retry_after_s=30.0)
    if VISITOR[space.stage] is Answer.WAKE:
        space = _wake(tools, space, now)
    return Visit(answer="wait", space=space)


def _cancel_drain(tools: Tools, space: Space, route: Route, now: float) -> Route | None:
    """The visit came in time: take the marker away. If the sleep won meanwhile, the caller wakes."""
    back = tools.store.change_route(route.host, expect=route.generation, mode=RouteMode.SERVE, now=now)
    if back is None:
        return tools.store.route(route.host)
    tools.store.update_space(space.id, sleep_asked_at=None)
    tools.store.touch({route.host: now}, {route.host: now})
    tools.signals.send_soon(signals.ROUTES)
    return back


def _wake(tools: Tools, space: Space, now: float) -> Space:
    """Single flight: the generation that was seen asleep is woken once, whoever else asks."""
    try:
        space = tools.store.happen(
            space.id, Event.VISITED, now=now, text="woken by a visit", expect=space.generation, wake_asked_at=now
        )
    except (Conflict, ImpossibleTransition):
        return tools.store.space(space.id) or space
    tell(tools, space.id)
    return space
