"""Commands that look at Spaces: list, logs, open."""

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated, Any

import typer

from orchestrator.cli.common import Name, Token, Url, connected, err, out, printable

_STYLES = {"RUNNING": "green", "SLEEPING": "blue", "PAUSED": "dim"}


def ls(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """List the Spaces that you can see."""
    with connected(url, token) as hub:
        rows = [row_of(info) for info in hub.spaces()]
        if as_json:
            print(json.dumps(rows, indent=2))
        elif not rows:
            err.print("There are no Spaces yet: publish one with `dormouse push FOLDER`.", markup=False)
        elif out.is_terminal:
            _print_table(rows)
        else:
            for row in rows:
                print(row["id"], row["stage"], row["url"], sep="\t")


def row_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """What the list shows of a Space."""
    return {
        "id": info["id"],
        "stage": info.get("runtime", {}).get("stage", ""),
        "sdk": info.get("sdk") or "",
        "private": bool(info.get("private")),
        "url": info.get("host", ""),
        "updated": info.get("lastModified", ""),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("Space", "Stage", "SDK", "URL"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        style = _STYLES.get(row["stage"], "red" if row["stage"].endswith(("ERROR", "FILE")) else "yellow")
        cells = (row["id"] + (" (private)" if row["private"] else ""), row["stage"], row["sdk"], row["url"])
        table.add_row(*(Text(cell, style=style if index == 1 else "") for index, cell in enumerate(cells)))
    out.print(table)


def logs(
    name: Name,
    *,
    build: Annotated[bool, typer.Option("--build", help="The newest build's log instead of the app's.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Only the last lines; 0 means all.")] = 0,
    url: Url = "",
    token: Token = "",
) -> None:
    """Print the log of a Space."""
    with connected(url, token) as hub:
        full_name, kind = hub.full_name(name), "build" if build else "run"
        if kind == "run" and hub.space(full_name).get("sdk") == "static":
            err.print(f"{full_name} is static, so no app writes a log; --build shows the build's.", markup=False)
            return
        kept: deque[str] | None = None
        skipped = 0
        if lines:
            with hub.logs(full_name, kind, follow=False) as log:
                skipped, kept = kept_of(log, lines)
        if kept is None or follow:
            with hub.logs(full_name, kind, follow=follow) as log:
                printed = print_lines(islice(log, skipped, None), flush=follow)
        else:
            printed = print_lines(kept)
        if not printed and not follow:
            what = (
                "It was never built." if build else "Its app has not written anything yet; --build shows the build's."
            )
            err.print(f"The log of {full_name} is empty. {what}", markup=False)


def print_lines(lines: Iterable[str], *, flush: bool = False) -> int:
    """Print them, as text and nothing else; how many there were."""
    count = 0
    for line in lines:
        print(printable(line), flush=flush)
        count += 1
    return count


def kept_of(log: Iterable[str], lines: int) -> tuple[int, deque[str]]:
    """The last lines, and how many come before them; a log is replayed in the same order each time."""
    kept: deque[str] = deque(maxlen=lines)
    count = 0
    for line in log:
        kept.append(line)
        count += 1
    return count - len(kept), kept


def open_space(name: Name, *, url: Url = "", token: Token = "") -> None:
    """Print a Space's URL, and open it in a browser where there is one."""
    with connected(url, token) as hub:
        address = str(hub.space(hub.full_name(name))["host"])
        print(address)
        if has_display(os.environ, sys.platform):
            import webbrowser

            webbrowser.open(address)


def has_display(environ: Mapping[str, str], platform: str) -> bool:
    """Whether a browser window could be seen by whoever called."""
    return platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
