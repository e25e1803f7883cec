"""The owner's orders to a Space. Each records what is wanted and hints the controller; none waits for the outcome."""

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.lifecycle import ERRORS, Event, Stage
from orchestrator.domain.space import NEVER, BuildStatus, RouteMode, Space, Variable
from orchestrator.errors import Conflict, Invalid, Refused
from orchestrator.flows.context import Tools
from orchestrator.flows.request_build import request_build
from orchestrator.flows.tell import tell
from orchestrator.ports import signals

VARIABLE_BYTES_MAX = 64 * 1024
VARIABLES_MAX = 200
SLEEP_TIME_S_MAX = 30 * 24 * 3600


def happen(
    tools: Tools, space: Space, event: Event, *, now: float, text: str, fields: Mapping[str, Any] | None = None
) -> Space:
    after = tools.store.happen(space.id, event, now=now, text=text, **(fields or {}))
    tell(tools, space.id)
    return after


def pause(tools: Tools, space: Space, *, now: float) -> Space:
    """Stop the Space until its owner restarts it; visits do not wake it. Static Spaces cannot be paused."""
    if space.sdk == "static":
        raise Invalid("A static Space costs nothing while nobody looks, so it cannot be paused. Delete it instead.")
    for build in tools.store.unfinished_builds():
        if build.space_id == space.id:  # Its restart builds the newest commit anew.
            tools.store.build_finished(build.id, BuildStatus.CANCELLED, now=now)
    after = happen(tools, space, Event.PAUSE, now=now, text="paused by its owner")
    _hold_from_now_on(tools, space, now=now)
    return after


def restart(tools: Tools, space: Space, *, factory: bool, now: float) -> Space:
    """Start the newest revision anew; with `factory`, or where it is not of the newest commit, build that one first."""
    if space.sdk == "static" and not factory:
        raise Invalid("A static Space has nothing to restart. Push a commit, or rebuild it from scratch.")
    if space.sha is None:
        raise Refused("This Space has no commit yet, so there is nothing to start. Push one first.")
    newest = next(iter(tools.store.revisions(space.id, limit=1)), None)
    # A pause, or this restart itself, may have come before the newest commit was built.
    if factory or newest is None or newest.sha != space.sha or space.stage in ERRORS - {Stage.RUNTIME_ERROR}:
        text = "rebuild asked for by its owner"
        return request_build(tools, space, space.sha, factory=factory, resume=True, now=now, text=text)
    fields = {"revision_id": newest.id, "problem": None, "wake_asked_at": None}
    return happen(tools, space, Event.RESTART, now=now, text="restarted by its owner", fields=fields)


def check_sleep_time(seconds: int) -> None:
    """Raises Invalid."""
    if seconds != NEVER and not 1 <= seconds <= SLEEP_TIME_S_MAX:
        raise Invalid(f"Write a sleep time of 1 to {SLEEP_TIME_S_MAX} seconds, or -1 for never.")


def set_sleep_time(tools: Tools, space: Space, seconds: int | None, *, now: float) -> Space:
    """Idle seconds until sleep; -1 never; None goes back to the installation's default."""
    if seconds is not None:
        check_sleep_time(seconds)
    after = tools.store.update_space(space.id, sleep_time_s=seconds, updated_at=now)
    tell(tools, space.id)
    return after


def delete(tools: Tools, space: Space, *, now: float) -> Space:
    """Mark the Space as going; the controller stops it and removes everything that belongs to it."""
    after = happen(tools, space, Event.DELETE, now=now, text="deleted by its owner")
    _hold_from_now_on(tools, space, now=now)
    return after


def _hold_from_now_on(tools: Tools, space: Space, *, now: float) -> None:
    """Withdraw the route at once; the controller would do so a moment later."""
    route = tools.store.route(space.host)
    if route is not None and route.mode is not RouteMode.GONE:
        tools.store.change_route(space.host, expect=route.generation, mode=RouteMode.GONE, now=now)
        tools.signals.send_soon(signals.ROUTES)


def wake(tools: Tools, space: Space, *, now: float) -> Space:
    """Wake a sleeping Space as a visit would; others are left as they are."""
    if space.stage is Stage.SLEEPING:
        return happen(tools, space, Event.VISITED, now=now, text="woken by its owner", fields={"wake_asked_at": now})
    if space.stage in ERRORS | {Stage.PAUSED, Stage.DELETING}:
        raise Conflict(f"This Space is {space.stage.value}: a visit does not wake it. Restart it, or push a commit.")
    return space


def sleep(tools: Tools, space: Space, *, now: float) -> Space:
    """Put the Space to sleep now, by the ordinary fenced way: what is in progress may still end."""
    if space.stage is Stage.SLEEPING:
        return space
    route = tools.store.route(space.host)
    if space.sdk == "static":
        raise Conflict("A static Space uses no process; there is nothing to put to sleep.")
    if route is None or route.mode is not RouteMode.SERVE:
        raise Conflict("Only a running Space can be put to sleep.")
    after = tools.store.update_space(space.id, sleep_asked_at=now)
    tools.store.change_route(space.host, expect=route.generation, mode=RouteMode.DRAIN, now=now)
    tools.signals.send_soon(signals.ROUTES)
    tell(tools, space.id)
    return after


def set_variable(tools: Tools, space: Space, variable: Variable, *, secret: bool, now: float) -> Space:
    """Set a variable or secret and restart what runs, so that it takes effect."""
    check_variable(variable)
    present = tools.store.secrets(space.id) if secret else tools.store.variables(space.id)
    if len(present) >= VARIABLES_MAX and variable.key not in {item.key for item in present}:
        raise Invalid(f"A Space can have {VARIABLES_MAX} variables and as many secrets. Delete one first.")
    value = tools.vault.seal(variable.value) if secret else variable.value
    stored = Variable(key=variable.key, value=value, description=variable.description, updated_at=now)
    tools.store.set_variable(space.id, stored, secret=secret)
    return _take_effect(tools, space, f"{'secret' if secret else 'variable'} {variable.key} set", now=now)


def delete_variable(tools: Tools, space: Space, key: str, *, secret: bool, now: float) -> Space:
    """Remove a variable or secret; silent if it is not there."""
    if not tools.store.delete_variable(space.id, key, secret=secret):
        return space
    return _take_effect(tools, space, f"{'secret' if secret else 'variable'} {key} removed", now=now)


def check_variable(variable: Variable) -> None:
    """Raises Invalid."""
    if not variable.key.isidentifier() or not variable.key.isascii() or len(variable.key) > 200:
        raise Invalid(f"{variable.key[:100]!r} is no variable name: use letters, digits and '_', no digit first.")
    if len(variable.value.encode()) > VARIABLE_BYTES_MAX or "\0" in variable.value:
        raise Invalid(f"The value of {variable.key} is too long or has a NUL byte; {VARIABLE_BYTES_MAX} bytes fit.")


def _take_effect(tools: Tools, space: Space, text: str, *, now: float) -> Space:
    starts_again = space.stage in (Stage.RUNNING, Stage.APP_STARTING, Stage.RUNNING_APP_STARTING, Stage.RUNTIME_ERROR)
    if not starts_again or space.sdk == "static" or space.revision_id is None:
        tell(tools, space.id)
        return space
    fields: dict[str, Any] = {"problem": None, "wake_asked_at": None}
    if space.stage is Stage.RUNTIME_ERROR:
        # It may have fallen back to an older revision; what was changed is to help the newest one.
        fields["revision_id"] = tools.store.revisions(space.id, limit=1)[0].id
    return happen(tools, space, Event.RESTART, now=now, text=f"restarted: {text}", fields=fields)
