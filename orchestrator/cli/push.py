"""`dormouse push`: a folder becomes a Space, and the command ends when it runs."""

import re
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import Token, Url, connected, err
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
    """Publish a folder: create the Space if it is missing, push, and follow the build until the app runs.

    A git repository pushes its HEAD; any other folder is committed as it is, without what its .gitignore names.
    """
    from orchestrator.cli.follow import follow
    from orchestrator.client import push as pushing

    with connected(url, token) as hub:
        if not folder.is_dir():
            raise Invalid(f"{folder} is no folder.")
        full_name = hub.full_name(name or name_from(folder))
        created = hub.create(full_name, sdk=sdk or pushing.sdk_of(folder), private=private)
        pushing.push(
            folder,
            f"{hub.url}/spaces/{full_name}",
            token=hub.token,
            show=lambda line: err.print(line, markup=False),
            # A Space made a moment ago holds nothing but its first, empty commit.
            force=force or created,
        )
        if no_wait:
            print(hub.space(full_name)["host"])
            return
        print(follow(hub, full_name)["url"])


def name_from(folder: Path) -> str:
    """A Space's name from a folder's: what is not allowed in one becomes a dash."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", folder.resolve().name).strip("-.")[:90]
    if not name:
        raise Invalid(f"No name can be made from the folder {folder}: give one with --name.")
    return name
