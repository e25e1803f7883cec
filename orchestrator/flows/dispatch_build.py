"""Build wanted -> order handed to a worker."""

import hashlib
import secrets

import structlog

from orchestrator.domain.lifecycle import Event
from orchestrator.domain.space import Build, BuildStatus, Problem, Space
from orchestrator.errors import Unavailable
from orchestrator.flows.context import Tools
from orchestrator.flows.tell import happen_if_possible
from orchestrator.ports import signals
from orchestrator.ports.build_queue import CONTRACT_VERSION, BuildOrder, BuildQueue

log = structlog.get_logger()


def token_hash(token: str) -> str:
    """How tokens are stored. They are random and long, so a plain hash suffices."""
    return hashlib.sha256(token.encode()).hexdigest()


def dispatch_build(tools: Tools, queue: BuildQueue, space: Space, build: Build, *, now: float) -> None:
    """Send the order of a queued build with a token of its own; an order sent before loses its right thereby.

    Raises Unavailable if the broker is away; the build stays queued and is sent in a later round.
    """
    token = f"hfb_{secrets.token_urlsafe(32)}"
    if not tools.store.build_sent(build.id, token_hash=token_hash(token), now=now):
        return
    order = _order(tools, space, build, token)
    try:
        queue.send(order)
    except Unavailable:
        tools.store.build_not_sent(build.id)
        raise
    log.info("build_sent", space=space.full_name, build=build.id, sha=build.sha[:8], attempt=build.attempt + 1)


def _order(tools: Tools, space: Space, build: Build, token: str) -> BuildOrder:
    return BuildOrder(
        version=CONTRACT_VERSION,
        build_id=build.id,
        space_id=space.id,
        space=space.full_name,
        owner_id=hashlib.sha256(space.owner.lower().encode()).hexdigest()[:16],
        sha=build.sha,
        repository_url=f"{tools.settings.local_url}/spaces/{space.full_name}",
        token=token,
        factory=build.factory,
    )


def abandon_build(tools: Tools, space: Space, build: Build, *, now: float) -> None:
    """Too many workers died over it."""
    problem = Problem("worker-lost", f"The worker ended {build.attempt} times during this build. Ask an admin to look.")
    if not tools.store.build_finished(build.id, BuildStatus.FAILED, now=now, problem=problem):
        return
    happen_if_possible(tools, space, Event.BUILD_FAILED, "build given up", now=now, problem=problem)
    tools.signals.send_soon(signals.space_channel(space.id), "changed")
