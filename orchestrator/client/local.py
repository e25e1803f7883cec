"""Finding the installation of this machine, and a token for whoever runs it.

The internal socket lies in a folder that only the owner of the installation can enter: whoever reaches it may act as
its admin, and gets a token for an hour. The token is kept beside the socket, for its owner's eyes alone, so that each
command does not make another one.
"""

import contextlib
import json
import os
import time
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
_KEPT = "local-token.json"
_TOKEN_S = 45 * 60.0
"""Shorter than it is valid, so that a command which takes long does not outlive it."""


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


def local_token(settings: Settings, *, fresh: bool = False) -> str:
    """A token of the admin: the kept one, or a new one. Raises NotReachable where this user runs no Dormouse."""
    hint = "start it with `dormouse up`, or give its address with --url and a token with --token."
    kept = "" if fresh else _kept_token(settings.run)
    try:
        with internal_client(settings.run) as client:
            # Asked even where a token is kept: it must not be sent to whoever has the port of a stopped Dormouse now.
            answer = client.get("/internal/healthz") if kept else client.post("/internal/local/token")
    except (OSError, httpx.TransportError) as error:
        raise NotReachable(f"No Dormouse is running from {settings.data}: {hint}") from error
    if answer.is_error:
        raise Unavailable(f"Dormouse is not ready yet (status {answer.status_code}): try again in a moment.")
    if kept:
        return kept
    token = str(answer.json()["token"])
    _keep_token(settings.run, token)
    return token


def _kept_token(run: Path) -> str:
    try:
        kept = json.loads((run / _KEPT).read_text())
        return str(kept["token"]) if 0 <= time.time() - float(kept["at"]) < _TOKEN_S else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _keep_token(run: Path, token: str) -> None:
    """Keep it in one step; where that fails the next command makes another."""
    part = run / f"{_KEPT}.{os.getpid()}"
    with contextlib.suppress(OSError):
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"token": token, "at": time.time()}, file)
        part.replace(run / _KEPT)


def local_hub(settings: Settings, *, url: str = "") -> Hub:
    """The API of this machine's installation, as its admin."""
    settings = as_running(settings)
    return Hub(
        url or settings.local_url,
        local_token(settings),
        public_url="" if url else settings.public_url,
        renew=lambda: local_token(settings, fresh=True),
    )


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
