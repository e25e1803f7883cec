"""Contents of files: what `hf download` and browsers get for `/spaces/<owner>/<name>/resolve/<revision>/<path>`.

What lies in a repository is somebody else's, but it is sent from our own host. So it is always a download, never a
page: no type that a browser would run, no sniffing, a sandbox without any right. A link is answered with its text,
never followed.
"""

import contextlib
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from orchestrator.ports.repositories import TreeEntry
from orchestrator.web import auth
from orchestrator.web.api.common import Readable, Tools, resolved
from orchestrator.web.errors import EntryMissing, TooLarge
from orchestrator.web.lanes import HeldStream, Lane
from orchestrator.web.sessions import client_key

router = APIRouter(prefix="/spaces/{owner}/{name}/resolve")
_AT_ONCE_MAX = 1 << 20
_DOWNLOADS = {"person": (32, 16), "stranger": (32, 8)}
"""Of large files: at once, and by one person or from one address."""
_PLACE_WAIT_S = 20.0
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_HARMLESS = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}


@router.api_route("/{rev}/{path:path}", methods=["GET", "HEAD"])
def resolve(request: Request, tools: Tools, space: Readable, rev: str, path: str) -> Response:
    sha = resolved(tools, space, rev)
    path = unquote(path)
    entry = tools.repositories.entry(space.id, sha, path)
    if entry is None or entry.kind not in ("file", "symlink"):
        raise EntryMissing(f"There is no file {path[:200]!r} in revision {rev[:60]} of {space.full_name}.", sha)
    if entry.size > tools.settings.repo_bytes_max:
        limit = tools.settings.repo_bytes_max >> 20
        raise TooLarge(f"{path[:200]!r} is larger than the {limit} MiB that Dormouse sends of one file.")
    headers = _headers(entry, sha)
    if f'"{entry.oid}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    part = _part(request, entry)
    if part is None:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{entry.size}"})
    first, length, status = part
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{entry.size}"
    headers["Content-Length"] = str(length)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if length <= _AT_ONCE_MAX:
        content = b"".join(tools.repositories.stream(space.id, entry.oid, start=first, length=length))
        return Response(content, status, headers)
    pieces = tools.repositories.stream(space.id, entry.oid, start=first, length=length)
    return HeldStream(_content(pieces), _place(request), status=status, headers=headers)


def downloads() -> dict[str, Lane]:
    """The lanes of those who download, for an application."""
    what = "large files are being downloaded at once"
    return {name: Lane(what, total=total, each=each) for name, (total, each) in _DOWNLOADS.items()}


def _place(request: Request) -> AbstractAsyncContextManager[None]:
    lanes: dict[str, Lane] = request.app.state.downloads
    user = auth.current_user(request)
    if user is None:
        return lanes["stranger"].place(client_key(request), wait_s=_PLACE_WAIT_S)
    return lanes["person"].place(user.id, wait_s=_PLACE_WAIT_S)


def _headers(entry: TreeEntry, sha: str) -> dict[str, str]:
    name = entry.path.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)[:200]
    kind = _HARMLESS.get(name.rpartition(".")[2].lower(), "application/octet-stream")
    return {
        "ETag": f'"{entry.oid}"',
        "X-Repo-Commit": sha,
        "Accept-Ranges": "bytes",
        "Content-Type": kind,
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')};",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-site",
        "Cache-Control": "private, no-cache",
    }


def _part(request: Request, entry: TreeEntry) -> tuple[int, int, int] | None:
    """(first byte, length, status) of what was asked for; None for a range outside of the file."""
    everything = (0, entry.size, 200)
    header = request.headers.get("range")
    if header is None or request.headers.get("if-range", f'"{entry.oid}"') != f'"{entry.oid}"':
        return everything
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        return everything
    if match[1] == "":
        first, last = max(0, entry.size - int(match[2])), entry.size - 1
    else:
        first, last = int(match[1]), min(int(match[2] or entry.size), entry.size - 1)
    return (first, last - first + 1, 206) if first <= last else None


async def _content(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Pieces as the client takes them; git ends with the request, however that ends."""
    try:
        while (piece := await run_in_threadpool(next, pieces, b"")) != b"":
            yield piece
    finally:
        with contextlib.suppress(ValueError):
            pieces.close()  # type: ignore[attr-defined]
