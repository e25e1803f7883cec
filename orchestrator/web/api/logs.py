"""Logs as server-sent events, in the exact framing that clients parse: `data: {...}` on one line.

A stream begins with everything that is kept, in the same order each time, because a client that reconnects skips as
many events as it has printed. Then it follows. A comment keeps a quiet connection alive, but no more often than each
20 seconds: clients that only want what is there stop after 5 silent seconds.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from orchestrator.domain.names import BuildId
from orchestrator.domain.space import Build, BuildStatus, Space
from orchestrator.errors import Missing
from orchestrator.ports.logs import LogLine
from orchestrator.web import auth
from orchestrator.web.api.common import Tools, Writable
from orchestrator.web.context import Context
from orchestrator.web.dates import zulu
from orchestrator.web.lanes import HeldStream, Lane

router = APIRouter(prefix="/api/spaces/{owner}/{name}/logs")

HEARTBEAT_S = 20.0
LOOK_S = 0.5
FOLLOWERS_MAX, FOLLOWED_MAX = 500, 24
"""In all, and by one person."""
_LINES = 1000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_OVER = frozenset((BuildStatus.SUCCEEDED, BuildStatus.FAILED, BuildStatus.SUPERSEDED, BuildStatus.CANCELLED))

Reader = Callable[[], tuple[Sequence[LogLine], bool]]
"""The next lines, and whether there will be no more."""


@router.get("/build")
def build_log(request: Request, tools: Tools, space: Writable, build: str = "") -> StreamingResponse:
    """Of the newest build, or of the one that `build` names; ends when the build has ended."""
    found = _build(tools, space, build)
    return _stream(request, _build_reader(tools, found))


@router.get("/run")
def run_log(request: Request, tools: Tools, space: Writable) -> StreamingResponse:
    """Of the app itself, through all its starts; never ends by itself."""
    return _stream(request, _run_reader(tools, space))


def followers() -> Lane:
    """The lane of those who follow a log, for an application."""
    return Lane("logs are being followed at once", total=FOLLOWERS_MAX, each=FOLLOWED_MAX)


def _build(tools: Context, space: Space, build_id: str) -> Build | None:
    if not build_id:
        return next(iter(tools.store.builds(space.id, limit=1)), None)
    found = tools.store.build(BuildId(build_id[:100]))
    if found is None or found.space_id != space.id:
        raise Missing(f"{space.full_name} has no build {build_id[:100]!r}.", "other")
    return found


def _build_reader(tools: Context, build: Build | None) -> Reader:
    position = 0

    def read() -> tuple[Sequence[LogLine], bool]:
        nonlocal position
        if build is None:
            return (), True
        # First the status, then the lines: what was written before the end is in.
        current = tools.store.build(build.id)
        over = current is None or current.status in _OVER
        lines = tools.logs.read_build(build.id, position, _LINES)
        position += len(lines)
        return lines, over and not lines

    return read


def _run_reader(tools: Context, space: Space) -> Reader:
    cursor = ""

    def read() -> tuple[Sequence[LogLine], bool]:
        nonlocal cursor
        lines, cursor = tools.logs.read_run(space.id, cursor, _LINES)
        return lines, not lines and tools.store.space(space.id) is None

    return read


def _stream(request: Request, read: Reader) -> StreamingResponse:
    caller = auth.signed_in(request)
    assert caller.user is not None
    lane: Lane = request.app.state.log_followers
    return HeldStream(_events(read), lane.place(caller.user.id), headers=_HEADERS, media_type="text/event-stream")


async def _events(read: Reader) -> AsyncGenerator[bytes, None]:
    yield b": log\n\n"
    quiet_since = time.monotonic()
    while True:
        lines, over = await run_in_threadpool(read)
        if lines:
            yield b"".join(_event(line) for line in lines)
            quiet_since = time.monotonic()
            continue
        if over:
            return
        if time.monotonic() - quiet_since >= HEARTBEAT_S:
            yield b": still here\n\n"
            quiet_since = time.monotonic()
        await asyncio.sleep(LOOK_S)


def _event(line: LogLine) -> bytes:
    event = {"data": line.text + "\n", "timestamp": zulu(line.at)}
    return b"data: " + json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
