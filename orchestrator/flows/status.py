"""What a waiting person is told: the phase, since when, why, the place in line, and what ends the wait."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.lifecycle import Stage, plain
from orchestrator.domain.space import BuildStatus, Replica, ReplicaState, RouteMode, Space
from orchestrator.domain.waking import ask_of, estimate_s, line_up
from orchestrator.flows.context import Tools


@dataclass(frozen=True, kw_only=True)
class Status:
    """State of a Space as people see it. Times in seconds."""

    stage: Stage
    phase: str
    """One word: queued, fetch, install, starting, ... or the stage in plain words."""
    since: float
    detail: str
    """What happens now, or what ends the wait."""
    message: str = ""
    """The problem of the newest commit, if there is one."""
    eta_s: float | None = None
    """Expected length of the whole wait, from earlier wakes."""
    elapsed_s: float = 0.0
    serving: bool = False
    place: int | None = None
    """Place in line, where there is one."""


_PLAIN_WORDS = {
    Stage.RUNNING: ("running", "It serves visitors."),
    Stage.SLEEPING: ("asleep", "The next visit wakes it."),
    Stage.PAUSED: ("paused", "Only its owner can restart it."),
    Stage.NO_APP_FILE: ("no app file", "Push an app to start it."),
    Stage.CONFIG_ERROR: ("configuration error", "Mend what the message names and push again."),
    Stage.BUILD_ERROR: ("build error", "Read the build log, mend the app and push again."),
    Stage.RUNTIME_ERROR: ("runtime error", "Read the log, mend the app and push again, or restart it."),
    Stage.DELETING: ("being deleted", "Nothing is left to do."),
}
_LINE_S = 1.0
"""A start that was admitted at once takes no longer to be recorded; past it, it waits in line."""
_BUILD_DETAIL = {
    "fetch": "Copying the commit to the worker.",
    "detect": "Finding out what kind of app it is.",
    "plan": "Working out what it needs.",
    "install": "Installing its requirements.",
    "snapshot": "Keeping the files of this commit.",
    "report": "Recording the image.",
}


def status(tools: Tools, space: Space, *, now: float) -> Status:
    """The Space's state, from the same rows that a visitor's answer is made of."""
    route = tools.store.route(space.host)
    serving = route is not None and route.mode is not RouteMode.GONE
    message = str(space.problem) if space.problem else ""
    if plain(space.stage) is Stage.BUILDING:
        phase, since, detail, place = _building(tools, space, now=now)
        eta = None
    elif plain(space.stage) is Stage.APP_STARTING:
        eta, place = estimate_s(tools.store.recent_wakes(space.id)), _place_in_line(tools, space, now=now)
        in_line = place is not None and now - max(space.stage_since, space.wake_asked_at or 0.0) >= _LINE_S
        phase, since, detail = _starting(space, tools.store.replicas(space.id), in_line=in_line)
    else:
        (phase, detail), since, place = _PLAIN_WORDS[space.stage], space.stage_since, None
        eta = estimate_s(tools.store.recent_wakes(space.id)) if space.stage is Stage.SLEEPING else None
    began = space.wake_asked_at or space.stage_since
    return Status(
        stage=space.stage,
        phase=phase,
        since=since,
        detail=detail,
        message=message,
        eta_s=eta,
        elapsed_s=max(0.0, now - began),
        serving=serving,
        place=place,
    )


def _building(tools: Tools, space: Space, *, now: float) -> tuple[str, float, str, int | None]:
    unfinished = tools.store.unfinished_builds()
    mine = next((build for build in unfinished if build.space_id == space.id), None)
    if mine is None:
        newest = next(iter(tools.store.builds(space.id, limit=1)), None)
        if newest is not None and (newest.finished_at or 0) >= space.stage_since:
            # The build's row ends a moment before the Space's stage does.
            return "report", newest.finished_at or now, _BUILD_DETAIL["report"], None
        return "queued", space.stage_since, "The build is about to be queued.", None
    if mine.status is BuildStatus.QUEUED:
        ahead = sum(1 for b in unfinished if b.status is BuildStatus.QUEUED and b.created_at < mine.created_at)
        detail = f"Waits for a worker, behind {ahead} other builds." if ahead else "The next free worker takes it."
        return "queued", mine.created_at, detail, ahead + 1
    current = mine.phases[-1] if mine.phases else None
    if current is None:
        return "queued", mine.created_at, "A worker has taken it.", None
    detail = current.detail or _BUILD_DETAIL.get(current.name, "")
    return current.name, current.started_at, detail, None


def _place_in_line(tools: Tools, space: Space, *, now: float) -> int | None:
    """Place among the Spaces that wait to be admitted to a start; None where nobody else waits."""
    begun = {replica.space_id for replica in tools.store.replicas() if replica.state is ReplicaState.STARTING}
    waiting = [
        ask_of(other)
        for other in tools.store.spaces_in((Stage.APP_STARTING, Stage.RUNNING_APP_STARTING))
        if other.id not in begun and other.start_not_before <= now
    ]
    order = [ask.space_id for ask in line_up(waiting)]
    return order.index(space.id) + 1 if len(order) > 1 and space.id in order else None


def _starting(space: Space, replicas: Sequence[Replica], *, in_line: bool) -> tuple[str, float, str]:
    starting = next((r for r in replicas if r.state is ReplicaState.STARTING), None)
    if starting is not None:
        return "starting", starting.started_at, "The app is starting; it opens as soon as it answers."
    if space.start_failures:
        detail = f"It ended {space.start_failures} times in a row; the next start comes after a short pause."
        return "waiting to start again", space.stage_since, detail
    if not in_line:
        return "starting", space.stage_since, "The app is about to start."
    return "waiting for a place", space.stage_since, "Starts are admitted one after the other; it is in line."
