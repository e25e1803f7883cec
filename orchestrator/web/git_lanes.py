"""Who may have a git process, and when: what comes before one is started.

A process is dear and a request that says little costs nothing, so a fetch is read to its end first, within a deadline,
and only then waits for a process. Builds, pushes, people and strangers do not take each other's places.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request

from orchestrator.errors import Invalid
from orchestrator.web.auth import Caller
from orchestrator.web.errors import TooSlow
from orchestrator.web.lanes import Lane
from orchestrator.web.sessions import client_key

PLACE_WAIT_S = 20.0
BODY_S = 30.0
"""For the whole body of a fetch, however it comes."""
BODY_MAX = 32 << 20
_IN_MEMORY_MAX = 1 << 20
_PIECE = 64 << 10
# (in all, for each one)
_PROCESSES = {"build": (8, 4), "push": (8, 4), "person": (8, 4), "stranger": (8, 4)}
_ARRIVING = {"build": (32, 8), "person": (64, 16), "stranger": (64, 8)}


class GitLanes:
    """The lanes of one application."""

    def __init__(self) -> None:
        operations, requests = "git operations run at once", "requests of git are being received at once"
        self.processes = {name: Lane(operations, total=n, each=each) for name, (n, each) in _PROCESSES.items()}
        self.arriving = {name: Lane(requests, total=n, each=each) for name, (n, each) in _ARRIVING.items()}


class Spool:
    """The body of a fetch, kept until a process is there for it: in memory, or where it is long in a file."""

    def __init__(self, body: AsyncIterator[bytes], folder: Path) -> None:
        self._body = body
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_MAX, dir=str(folder))  # noqa: SIM115  see `close`

    async def fill(self) -> None:
        """Take all of the body. Raises TooSlow or Invalid for what no client of git does."""
        taken = 0
        try:
            async with asyncio.timeout(BODY_S):
                async for piece in self._body:
                    taken += len(piece)
                    if taken > BODY_MAX:
                        raise Invalid(f"A request to fetch may have {BODY_MAX >> 20} MiB.")
                    self._file.write(piece)
        except TimeoutError:
            raise TooSlow(f"The request did not arrive within {BODY_S:.0f} seconds; try again.") from None

    async def pieces(self) -> AsyncIterator[bytes]:
        """What was taken."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece

    def close(self) -> None:
        self._file.close()


@contextlib.asynccontextmanager
async def admitted(
    request: Request, caller: Caller | None, service: str, spool: Spool | None = None
) -> AsyncIterator[None]:
    """A process may run for the length of the block; `spool` is full by then. Raises Unavailable."""
    lanes: GitLanes = request.app.state.git_lanes
    name, holder = _party(request, caller, service)
    async with contextlib.AsyncExitStack() as running:
        async with contextlib.AsyncExitStack() as arriving:
            if spool is not None:
                running.callback(spool.close)
                # Held until a process is there, because that long the body takes up room.
                await arriving.enter_async_context(lanes.arriving[name].place(holder, wait_s=PLACE_WAIT_S))
                await spool.fill()
            await running.enter_async_context(lanes.processes[name].place(holder, wait_s=PLACE_WAIT_S))
        yield


def _party(request: Request, caller: Caller | None, service: str) -> tuple[str, str]:
    """The lane, and whom a place in it counts for."""
    if caller is not None and caller.build is not None:
        return "build", caller.build.id
    if caller is None or caller.user is None:
        return "stranger", client_key(request)
    return "push" if service == "receive-pack" else "person", caller.user.id
