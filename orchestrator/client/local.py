"""Finding the installation of this machine, and a token for whoever runs it.

The internal socket lies in a folder that only the owner of the installation can enter: whoever reaches it may act as
its admin, and gets a token for an hour.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from orchestrator.client.hub import Hub, NotReachable
from orchestrator.errors import Unavailable
from orchestrator.settings import Settings

_SOCKET_PATH_MAX = 100


def running(settings: Settings) -> dict[str, Any]:
    """What `dormouse up` says about itself in the data folder; empty if it does not run."""
    try:
        found = json.loads((settings.run / "children.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def as_running(settings: Settings) -> Settings:
    """The settings with the address that the running installation really has."""
    found = running(settings)
    known = {key: found[key] for key in ("port", "bind", "domain") if key in found}
    return replace(settings, **known)


def local_token(settings: Settings) -> str:
    """A token of the admin. Raises NotReachable where this user runs no Dormouse."""
    hint = "start it with `dormouse up`, or give its address with --url and a token with --token."
    try:
        with internal_client(settings.run) as client:
            answer = client.post("/internal/local/token")
    except (OSError, httpx.TransportError) as error:
        raise NotReachable(f"No Dormouse is running from {settings.data}: {hint}") from error
    if answer.is_error:
        raise Unavailable(f"Dormouse is not ready yet (status {answer.status_code}): try again in a moment.")
    return str(answer.json()["token"])


def local_hub(settings: Settings) -> Hub:
    """The API of this machine's installation, as its admin."""
    settings = as_running(settings)
    return Hub(settings.local_url, local_token(settings))


@contextmanager
def internal_client(run: Path, socket: str = "internal.sock") -> Iterator[httpx.Client]:
    """An HTTP client on a socket of the run folder; long paths are reached through the opened folder."""
    path, folder = str(run / socket), -1
    try:
        if len(path.encode()) > _SOCKET_PATH_MAX:
            folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
            path = f"/proc/self/fd/{folder}/{socket}"
        with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://dormouse", timeout=10.0) as client:
            yield client
    finally:
        if folder >= 0:
            os.close(folder)
