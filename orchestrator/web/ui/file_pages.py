"""The files of a Space, to be read: folders as lists, text files in lines with numbers.

Nothing of a repository is sent as HTML, as an image or as anything else that a browser acts on: on our own origin it
could use the visitor's session.
"""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from orchestrator.domain.names import CommitSha
from orchestrator.domain.space import Space
from orchestrator.errors import Missing
from orchestrator.web.context import context_of
from orchestrator.web.ui import present, present_files, text
from orchestrator.web.ui.present_files import Place
from orchestrator.web.ui.rendering import find_space, render, shell
from orchestrator.web.ui.space_pages import header
from orchestrator.web.ui.view_models import BlobPage, TreePage

router = APIRouter(prefix="/spaces/{owner}/{name}", include_in_schema=False)


def _place(request: Request, kind: str) -> Place:
    raw = request.scope.get("raw_path") or request.url.path.encode()
    return present_files.parse_place(bytes(raw), kind)


def _commit(request: Request, space: Space, place: Place) -> CommitSha:
    sha = context_of(request).repositories.resolve(space.id, place.revision)
    if sha is None:
        raise Missing(f"There is no revision {place.revision[:100]!r} in {space.full_name}.", kind="revision")
    return sha


@router.get("/tree")
@router.get("/tree/{rest:path}")
def tree_page(request: Request, owner: str, name: str, rest: str = "") -> HTMLResponse:
    space, viewer = find_space(request, owner, name)
    place, repositories = _place(request, "tree"), context_of(request).repositories
    head = header(request, space, viewer, "files")
    empty = space.sha is None and place == Place("main", "")
    sha = None if empty else _commit(request, space, place)
    entries = repositories.tree(space.id, sha, place.path) if sha else ()
    page = TreePage(
        shell=shell(request, f"Files · {space.full_name}", "store"),
        space=head,
        crumbs=present_files.crumbs(head.path, place, space.name),
        commit=present_files.commit_view(repositories.commit(space.id, sha), now=context_of(request).clock())
        if sha
        else None,
        rows=present_files.file_rows(head.path, place, entries),
        cut=max(0, len(entries) - present_files.TREE_ROWS_MAX),
        help=present.publish_help(viewer.base, space.owner, space.name),
    )
    return render(request, "tree.html", page)


@router.get("/blob/{rest:path}", response_model=None)
def blob_page(request: Request, owner: str, name: str, rest: str) -> HTMLResponse | RedirectResponse:
    space, viewer = find_space(request, owner, name)
    place, repositories = _place(request, "blob"), context_of(request).repositories
    sha = _commit(request, space, place)
    entry = repositories.entry(space.id, sha, place.path) if place.path else None
    if entry is None:
        raise Missing(f"There is no file {place.path[:200]!r} in this revision of {space.full_name}.", kind="entry")
    head = header(request, space, viewer, "files")
    if entry.kind == "directory":
        return RedirectResponse(present_files.address(head.path, "tree", place.revision, place.path))
    is_blob = entry.kind != "submodule"
    data = repositories.read(space.id, entry.oid, limit=present_files.VIEW_BYTES_MAX) if is_blob else b""
    lines, notice = present_files.content(entry, data)
    page = BlobPage(
        shell=shell(request, f"{place.path} · {space.full_name}"[:200], "store"),
        space=head,
        crumbs=present_files.crumbs(head.path, place, space.name),
        commit=present_files.commit_view(repositories.commit(space.id, sha), now=context_of(request).clock()),
        size=text.size(entry.size),
        lines=lines,
        notice=notice,
        download=present_files.address(head.path, "resolve", sha, place.path) if entry.kind == "file" else "",
    )
    return render(request, "blob.html", page)
