"""`dormouse push`: a folder becomes a Space, and the command ends when it runs."""

import re
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import Token, Url, connected, err, printable
from orchestrator.client.hub import Hub
from orchestrator.errors import Invalid


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the app.")],
    *,
    name: Annotated[str, typer.Option("--name", help="NAME or OWNER/NAME; else the folder's name.")] = "",
    sdk: Annotated[str, typer.Option("--sdk", help="gradio, streamlit, static or asgi; else what its files say.")] = "",
    private: Annotated[bool, typer.Option("--private", help="Visible to you alone, if it is created now.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace commits that DIR does not have.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End after the push; the build goes on.")] = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """Publish a folder, and wait until the app runs.

    The Space is created if it is missing. A git repository pushes its HEAD; any other folder is committed as it is,
    without what its .gitignore names, and without .env files, virtual environments and caches.
    """
    from orchestrator.cli.follow import follow
    from orchestrator.client import push as pushing

    with connected(url, token) as hub:
        if not folder.is_dir():
            raise Invalid(f"{folder} is no folder.")
        full_name = hub.full_name(name or name_from(folder))
        remote = f"{hub.url}/spaces/{full_name}"
        present = hub.exists(full_name)
        with pushing.prepared(folder, remote if present else "", token=hub.token) as commit:
            if line := pushing.left_out_line(commit.left_out):
                err.print(line, markup=False)
            created = not present and hub.create(full_name, sdk=sdk or pushing.sdk_of(folder), private=private)
            if commit.changed:
                # A Space made a moment ago holds nothing but its first, empty commit.
                force = force or created
                commit.push(remote, token=hub.token, show=show_line, force=force)
        if no_wait:
            print(hub.space(full_name)["host"])
            return
        if not commit.changed:
            say_unchanged(hub, full_name)
        print(follow(hub, full_name)["url"])


def show_line(line: str) -> None:
    """A line of git's, which comes from the server."""
    err.print(printable(line), markup=False)


def say_unchanged(hub: Hub, name: str) -> None:
    """That nothing was pushed, and what that leaves as it is."""
    status = hub.status(name)
    states = {"RUNNING": f"it runs at {status['url']}", "SLEEPING": "it is asleep until its next visit"}
    state = states.get(status["stage"], f"it stays as it was ({status['stage']})")
    err.print(f"Nothing has changed; {state}.", markup=False)


def name_from(folder: Path) -> str:
    """A Space's name from a folder's: what is not allowed in one becomes a dash."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", folder.resolve().name).strip("-.")[:90]
    if not name:
        raise Invalid(f"No name can be made from the folder {folder}: give one with --name.")
    return name
