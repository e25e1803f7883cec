"""The `dormouse` command. Each command imports what it needs when it runs, so that `--help` is instant."""

from typing import Annotated

import typer

from orchestrator import __version__
from orchestrator.cli import life, push, spaces, users, variables
from orchestrator.cli.common import ending

app = typer.Typer(
    name="dormouse",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A self-hosted home for AI apps: push a folder, get a URL, sleep when idle, wake on the next visit.",
)
app.command("push")(push.push)
app.command("ls")(spaces.ls)
app.command("logs")(spaces.logs)
app.command("open")(spaces.open_space)
app.command("sleep")(life.sleep)
app.command("wake")(life.wake)
app.command("restart")(life.restart)
app.command("pause")(life.pause)
app.command("rm")(life.remove)
app.command("vars")(variables.variables)
app.command("secrets")(variables.secrets)
app.add_typer(users.app, name="users")


@app.command()
def up() -> None:
    """Start Dormouse on this machine, in the foreground, until Ctrl-C."""
    from orchestrator import settings
    from orchestrator.supervisor.up import main

    with ending():
        raise typer.Exit(main(settings.load()))


@app.command()
def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Say what this machine has, what is missing, and what that means."""
    from orchestrator.cli import doctor as checkup

    with ending():
        raise typer.Exit(checkup.run(as_json=as_json))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dormouse {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


if __name__ == "__main__":
    app()
