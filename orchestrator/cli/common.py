"""What the commands share: whom they talk to, how they end, how they speak.

Results go to standard output and nothing else does; progress and errors go to standard error. Exit status: 0 done,
1 refused or failed, 2 wrong usage, 3 Dormouse not reachable.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from orchestrator.client.hub import Hub, NotReachable
from orchestrator.errors import DormouseError
from orchestrator.settings import Settings

# Whole sequences first (colours, window titles, the rest), so that nothing of their insides is left as text.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)

REFUSED, USAGE, NOT_REACHABLE = 1, 2, 3

Url = Annotated[
    str, typer.Option("--url", help="Address of Dormouse; else DORMOUSE_URL, HF_ENDPOINT, or this machine's own.")
]
Token = Annotated[
    str, typer.Option("--token", help="Access token; else DORMOUSE_TOKEN, HF_TOKEN, or this machine's own.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="NAME for a Space of your own, or OWNER/NAME.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def printable(line: str) -> str:
    """What somebody else has written, without what would drive the terminal: one line, no colours, tabs stay."""
    if line.isascii() and line.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\t" else " " * c.isspace() for c in _ESCAPES.sub("", line))


@contextmanager
def ending() -> Iterator[None]:
    """Turn errors into one sentence and an exit status."""
    try:
        yield
    except DormouseError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(NOT_REACHABLE if isinstance(error, NotReachable) else REFUSED) from None
    except BrokenPipeError:
        # Whoever read our output has gone, for instance `head`: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@contextmanager
def connected(url: str, token: str, environ: Mapping[str, str] | None = None) -> Iterator[Hub]:
    """The API of the chosen installation, inside `ending`."""
    with ending(), choose(url, token, os.environ if environ is None else environ) as hub:
        yield hub


def choose(url: str, token: str, environ: Mapping[str, str]) -> Hub:
    """Address and credentials, in the order that the help promises.

    A token that the environment holds for elsewhere (HF_TOKEN) is not sent to this machine's own installation, which
    gives out one of its own.
    """
    from orchestrator import settings
    from orchestrator.client import local

    given_url = url or environ.get("DORMOUSE_URL") or environ.get("HF_ENDPOINT") or ""
    given_token = token or environ.get("DORMOUSE_TOKEN") or ""
    chosen = settings.load(environ)
    if not given_url and given_token:
        chosen = local.as_running(chosen)
        return Hub(chosen.local_url, given_token, public_url=chosen.public_url)
    if not given_token and (not given_url or is_own(given_url, local.as_running(chosen))):
        return local.local_hub(chosen, url=given_url)
    return Hub(given_url, given_token or environ.get("HF_TOKEN", ""))


def is_own(url: str, chosen: Settings) -> bool:
    """Whether an address is that of the installation of these settings, running on this machine."""
    from orchestrator.client.local import running

    parts = urlsplit(url)
    own_names = {"localhost", "127.0.0.1", "::1", chosen.domain, chosen.bind}
    return bool(running(chosen)) and parts.hostname in own_names and parts.port == chosen.port
