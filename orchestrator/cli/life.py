"""Orders to a Space: sleep, wake, restart, pause, rm. Each says in one line what happens now."""

import sys
import time
from typing import Annotated

import typer

from orchestrator.cli.common import Name, Token, Url, connected, err
from orchestrator.client.hub import Hub
from orchestrator.errors import Refused, Unavailable

SLEEP_LIMIT_S = 120.0
_POLL_S = 0.3

Wait = Annotated[bool, typer.Option("--wait", help="Wait until it runs, showing how far it is.")]


def say(text: str) -> None:
    """One line for people; standard output is for results."""
    err.print(text, markup=False)


def sleep(
    name: Name,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is asleep.")] = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """Put a Space to sleep now; the next visit wakes it."""
    with connected(url, token) as hub:
        full_name = hub.full_name(name)
        if hub.order(full_name, "sleep") == "SLEEPING":
            say(f"{full_name} is asleep; the next visit wakes it.")
            return
        say(f"{full_name} goes to sleep as soon as nothing is in progress; the next visit wakes it.")
        if wait:
            until_asleep(hub, full_name)
            say(f"{full_name} is asleep.")


def until_asleep(hub: Hub, name: str, *, limit_s: float = SLEEP_LIMIT_S) -> None:
    """Wait for it. Raises Refused if it becomes something else, Unavailable past the limit."""
    deadline = time.monotonic() + limit_s
    while (stage := hub.status(name)["stage"]) != "SLEEPING":
        if stage != "RUNNING":
            raise Refused(f"{name} does not go to sleep: it is {stage} now.")
        if time.monotonic() > deadline:
            raise Unavailable(f"{name} is still awake after {limit_s:.0f} s: somebody is using it.")
        time.sleep(_POLL_S)


def wake(name: Name, *, wait: Wait = False, url: Url = "", token: Token = "") -> None:
    """Wake a Space as a visit would."""
    with connected(url, token) as hub:
        full_name = hub.full_name(name)
        stage = hub.order(full_name, "wake")
        say(f"{full_name} runs already." if stage == "RUNNING" else f"{full_name} is waking up.")
        if wait:
            _follow(hub, full_name)


def restart(
    name: Name,
    *,
    factory: Annotated[bool, typer.Option("--factory", help="Build it anew, without any cache, first.")] = False,
    wait: Wait = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """Restart a Space; this also ends a pause."""
    with connected(url, token) as hub:
        full_name = hub.full_name(name)
        hub.restart(full_name, factory=factory)
        say(f"{full_name} is {'built anew and then started' if factory else 'restarted'}.")
        if wait:
            _follow(hub, full_name)


def pause(name: Name, *, url: Url = "", token: Token = "") -> None:
    """Stop a Space until `dormouse restart`; visits do not wake it."""
    with connected(url, token) as hub:
        full_name = hub.full_name(name)
        hub.order(full_name, "pause")
        say(f"{full_name} is paused; `dormouse restart {full_name}` starts it again.")


def remove(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """Delete a Space with its repository, logs and secrets."""
    with connected(url, token) as hub:
        full_name = str(hub.space(hub.full_name(name))["id"])
        if not yes:
            if not sys.stdin.isatty():
                raise Refused(f"Nobody can be asked whether to delete {full_name}: add --yes.")
            if not typer.confirm(f"Delete {full_name} with its repository, logs and secrets?", err=True):
                raise Refused("Nothing was deleted.")
        hub.delete(full_name)
        say(f"{full_name} is deleted.")


def _follow(hub: Hub, name: str) -> None:
    from orchestrator.cli.follow import follow

    print(follow(hub, name)["url"])
