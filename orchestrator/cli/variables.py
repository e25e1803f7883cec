"""`dormouse vars` and `dormouse secrets`: what a Space finds in its environment. Secrets go in and never come out."""

import getpass
import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from orchestrator.cli.common import Name, Token, Url, connected, err
from orchestrator.errors import Invalid

VALUE_CHARS_MAX = 1 << 17


class Action(StrEnum):
    """What to do; nothing lists them."""

    SET = "set"
    RM = "rm"


What = Annotated[Action | None, typer.Argument(metavar="ACTION", help="set or rm; without it they are listed.")]
Items = Annotated[list[str] | None, typer.Argument(metavar="KEY[=VALUE]", help="One or several; see above.")]
Json = Annotated[bool, typer.Option("--json", help="Print the list as JSON.")]


def variables(
    name: Name, what: What = None, items: Items = None, *, as_json: Json = False, url: Url = "", token: Token = ""
) -> None:
    """List, set or remove variables of a Space.

    A KEY without =VALUE is read from standard input. A change restarts the app.
    """
    _act(name, "variables", what, items or [], as_json=as_json, url=url, token=token)


def secrets(
    name: Name, what: What = None, items: Items = None, *, as_json: Json = False, url: Url = "", token: Token = ""
) -> None:
    """List, set or remove secrets of a Space.

    A KEY without =VALUE is read from standard input, which keeps it out of the shell's history. A change restarts
    the app. Values are never shown again.
    """
    _act(name, "secrets", what, items or [], as_json=as_json, url=url, token=token)


def _act(name: str, kind: str, what: Action | None, items: list[str], *, as_json: bool, url: str, token: str) -> None:
    if what is not None and not items:
        raise typer.BadParameter(f"name what to {what.value}, for instance `{what.value} KEY`.")
    with connected(url, token) as hub:
        full_name = hub.full_name(name)
        if what is Action.RM:
            _remove(items, present=hub.variables(full_name, kind))
            for key in items:
                hub.delete_variable(full_name, kind, key)
        elif what is Action.SET:
            for key, value in pairs_of(items):
                hub.set_variable(full_name, kind, key, value)
        else:
            _show(hub.variables(full_name, kind), full_name, kind, as_json=as_json)
            return
        done = {Action.SET: "set", Action.RM: "removed"}[what]
        keys = ", ".join(item.partition("=")[0] for item in items)
        err.print(f"{keys} {done}; {full_name} starts anew with it if it runs.", markup=False)


def _remove(keys: list[str], *, present: Iterable[str]) -> None:
    """Raises Invalid for what is not there: a misspelled key must not look removed."""
    missing = [key for key in keys if key not in set(present)]
    if missing:
        raise Invalid(f"There is no {', '.join(missing)} here; nothing was removed.")


def pairs_of(items: list[str]) -> list[tuple[str, str]]:
    """(key, value) of each; one value may come from standard input. Raises Invalid."""
    if sum("=" not in item for item in items) > 1:
        raise Invalid("Only one value can be read from standard input: write KEY=VALUE for the others.")
    return [(key, value if equals else _read(key)) for key, equals, value in (item.partition("=") for item in items)]


def _read(key: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"Value of {key}: ")
    return sys.stdin.read(VALUE_CHARS_MAX).removesuffix("\n")


def _show(rows: dict[str, dict[str, object]], name: str, kind: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(list(rows.values()), indent=2))
    elif not rows:
        err.print(f"{name} has no {kind} yet.", markup=False)
    for key, row in rows.items() if not as_json else ():
        print(*(key, row["value"]) if "value" in row else (key,), sep="\t")
