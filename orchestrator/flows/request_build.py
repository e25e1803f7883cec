"""Commit accepted -> a build is wanted. The database chooses; the controller sends."""

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import CommitSha
from orchestrator.domain.space import Space
from orchestrator.flows.context import Tools
from orchestrator.flows.tell import tell


def request_build(
    tools: Tools,
    space: Space,
    sha: CommitSha,
    *,
    factory: bool = False,
    resume: bool = False,
    now: float,
    text: str,
    fields: Mapping[str, Any] | None = None,
) -> Space:
    """Queue a build of `sha` and show it. A paused Space only remembers the commit: its restart (`resume`) builds it.

    The stage is an intermediate one when this returns, because clients wait from then on.
    """
    if space.stage is Stage.PAUSED and not resume:
        after = tools.store.happen(space.id, Event.COMMIT_ACCEPTED, now=now, text=text, **(fields or {}))
    else:
        if space.stage is Stage.PAUSED:
            tools.store.happen(space.id, Event.RESTART, now=now, text="resumed by its owner")
        tools.store.request_build(space.id, sha, factory=factory, now=now)
        wanted: dict[str, Any] = {"problem": None, "start_failures": 0, "start_not_before": 0.0, **(fields or {})}
        after = tools.store.happen(space.id, Event.COMMIT_ACCEPTED, now=now, text=text, **wanted)
    tell(tools, space.id)
    return after
