"""`dormouse users`: who may use this installation. For admins."""

import json
from typing import Annotated

import typer

from orchestrator.cli.common import Token, Url, connected, out, printable

app = typer.Typer(no_args_is_help=True, help="List, add and remove users, and make tokens for them.")
UserName = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]


@app.command("ls")
def list_users(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """List the users."""
    with connected(url, token) as hub:
        users = hub.users()
        if as_json:
            print(json.dumps(users, indent=2))
            return
        for user in users:
            role = "admin" if user.get("isAdmin") else "user"
            print(user["name"], role, printable(user.get("fullname", "")), sep="\t")


@app.command("add")
def add_user(
    name: UserName,
    *,
    full_name: Annotated[str, typer.Option("--full-name", help="Name in full.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """Add a user and print a token for them, once."""
    with connected(url, token) as hub:
        print(hub.add_user(name, full_name=full_name, admin=admin))


@app.command("rm")
def remove_user(name: UserName, *, url: Url = "", token: Token = "") -> None:
    """Remove a user who owns no Spaces any more, with all their tokens."""
    with connected(url, token) as hub:
        hub.remove_user(name)
        if out.is_terminal:
            out.print(f"{name} is removed.", markup=False)


@app.command("token")
def make_token(
    name: UserName,
    *,
    label: Annotated[str, typer.Option("--label", help="What it is for.")] = "command line",
    read_only: Annotated[bool, typer.Option("--read-only", help="It can look, but change nothing.")] = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """Make a token for a user and print it, once."""
    with connected(url, token) as hub:
        print(hub.add_token(name, label=label, role="read" if read_only else "write"))
