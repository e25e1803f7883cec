"""Git over HTTP: `git clone` and `git push` at `/spaces/<owner>/<name>`, with and without `.git`.

The smart protocol is spoken by git itself (`upload-pack`, `receive-pack`); this module finds out who may, and carries
bytes both ways in bounded memory. Git asks for credentials only when told by a 401, so strangers get one for every
push and for every repository that they may not see, whether it exists or not. Whatever happens to the connection,
the git process ends with it. Who gets a process, and when, is said in `git_lanes`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import structlog
from fastapi import APIRouter, Request
from prometheus_client import Counter
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from orchestrator.domain.space import Space
from orchestrator.errors import Invalid, Missing, NotAllowed, Unauthenticated
from orchestrator.ports.repositories import GitServer
from orchestrator.web import auth, git_lanes
from orchestrator.web.api.common import Tools, readable, writable
from orchestrator.web.context import Context
from orchestrator.web.git_process import GitResponse, packet, unzipped

log = structlog.get_logger()
router = APIRouter(prefix="/spaces/{owner}/{name}")

IDLE_S = 90.0
_NEVER_KEPT = {
    "Expires": "Fri, 01 Jan 1980 00:00:00 GMT",
    "Pragma": "no-cache",
    "Cache-Control": "no-cache, max-age=0, must-revalidate",
}
_SERVICES = {"git-upload-pack": "upload-pack", "git-receive-pack": "receive-pack"}
_SESSIONS = Counter("dormouse_git_requests_total", "Requests of git clients.", ["service"])


def _allowed(request: Request, owner: str, name: str, service: str) -> tuple[Space, auth.Caller | None]:
    """The Space, if the caller may fetch from it or push to it."""
    name = name.removesuffix(".git")
    caller = auth.identify(request, workers=True)
    if service == "upload-pack":
        return readable(request, owner, name), caller
    if caller is None:
        raise Unauthenticated("Pushing needs a token: give it as the password (the user name does not matter).")
    if caller.user is None:
        raise NotAllowed("The token of a build may only fetch.")
    try:
        return writable(request, owner, name), caller
    except Missing as error:
        raise Missing(f"{error} To publish a new one, create it first: `dormouse push`, or on the page New.") from None


@router.get("/info/refs")
async def info_refs(request: Request, tools: Tools, owner: str, name: str, service: str = "") -> Response:
    if service not in _SERVICES:
        raise NotAllowed("This git client is too old: it asks for the dumb protocol. Use git 1.6.6 or newer.")
    short = _SERVICES[service]
    space, caller = await run_in_threadpool(_allowed, request, owner, name, short)
    server = _server(tools, request, space, caller, short, advertise=True)
    second = request.headers.get("git-protocol", "") == "version=2" and short == "upload-pack"
    prefix = b"" if second else packet(f"# service={service}\n".encode()) + b"0000"
    admission = git_lanes.admitted(request, caller, short)
    return _answer(server, admission, f"application/x-{service}-advertisement", prefix=prefix)


@router.post("/git-upload-pack")
async def upload_pack(request: Request, tools: Tools, owner: str, name: str) -> Response:
    return await _exchange(request, tools, (owner, name), "git-upload-pack", git_lanes.BODY_MAX)


@router.post("/git-receive-pack")
async def receive_pack(request: Request, tools: Tools, owner: str, name: str) -> Response:
    return await _exchange(request, tools, (owner, name), "git-receive-pack", tools.settings.repo_bytes_max)


async def _exchange(
    request: Request, tools: Context, space_name: tuple[str, str], service: str, body_max: int
) -> Response:
    short = _SERVICES[service]
    space, caller = await run_in_threadpool(_allowed, request, *space_name, short)
    if request.headers.get("content-type") != f"application/x-{service}-request":
        raise Invalid(f"The body must be of type application/x-{service}-request.")
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Invalid(f"The content encoding {encoding[:40]!r} is unknown; send it plain or as gzip.")
    server = _server(tools, request, space, caller, short, advertise=False)
    body = _body(request, zipped=encoding != "identity")
    _SESSIONS.labels(short).inc()
    spool = None
    if short == "upload-pack":
        spool = git_lanes.Spool(body, tools.settings.run)
        body = spool.pieces()
    admission = git_lanes.admitted(request, caller, short, spool)
    if short == "receive-pack":
        log.info("push_began", space=space.full_name, user=caller.user.name if caller and caller.user else "")
    return _answer(server, admission, f"application/x-{service}-result", body=body, body_max=body_max)


def _server(
    tools: Context, request: Request, space: Space, caller: auth.Caller | None, service: str, *, advertise: bool
) -> GitServer:
    return tools.repositories.server(
        space.id,
        service,
        advertise=advertise,
        protocol=request.headers.get("git-protocol", ""),
        user_id=caller.user.id if caller and caller.user else "",
        push_bytes_max=tools.settings.repo_bytes_max,
    )


def _answer(
    server: GitServer,
    admission: AbstractAsyncContextManager[None],
    media_type: str,
    *,
    prefix: bytes = b"",
    body: AsyncIterator[bytes] | None = None,
    body_max: int = 0,
) -> Response:
    limit = f"{body_max / (1 << 20):.0f} MiB" if body_max >= 1 << 20 else f"{body_max} bytes"
    return GitResponse(
        server,
        admission=admission,
        media_type=media_type,
        headers=_NEVER_KEPT,
        prefix=prefix,
        body=body,
        body_max=body_max,
        too_large=f"This push is larger than the {limit} that Dormouse takes at once. "
        "Take large files out of the commits that you push (also out of older ones), and push again.",
    )


async def _body(request: Request, *, zipped: bool) -> AsyncIterator[bytes]:
    """The request's body in pieces, unzipped. A client that goes silent is taken for gone."""
    pieces: AsyncIterator[bytes] = request.stream()
    if zipped:
        pieces = unzipped(pieces)
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ClientDisconnect from None
        yield piece
