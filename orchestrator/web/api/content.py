"""The files and the history of a repository, as lists."""

import html
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, Request

from orchestrator.ports.repositories import Commit
from orchestrator.web.api import views
from orchestrator.web.api.common import Form, Readable, Tools, flag, page_size, page_start, resolved
from orchestrator.web.dates import zulu
from orchestrator.web.responses import Json, next_link

router = APIRouter(prefix="/api/spaces/{owner}/{name}")
_PATHS_MAX = 5000


@router.get("/tree/{rev}")
@router.get("/tree/{rev}/{path:path}")
def tree(request: Request, tools: Tools, space: Readable, rev: str, path: str = "") -> Json:
    recursive = flag(request.query_params.get("recursive"))
    sha = resolved(tools, space, rev)
    entries = tools.repositories.tree(space.id, sha, unquote(path), recursive=recursive)
    start, size = page_start(request, "cursor"), page_size(request, default=1000, most=1000)
    headers = next_link(request, cursor=start + size) if len(entries) > start + size else {}
    return Json([views.tree_entry(entry) for entry in entries[start : start + size]], headers=headers)


@router.post("/paths-info/{rev}")
def paths_info(tools: Tools, space: Readable, rev: str, form: Form) -> Json:
    """Paths that do not exist are simply absent."""
    sha = resolved(tools, space, rev)
    entries = tools.repositories.entries(space.id, sha, form.get("paths", [])[:_PATHS_MAX])
    return Json([views.tree_entry(entry) for entry in entries])


@router.get("/refs")
def refs(request: Request, tools: Tools, space: Readable) -> Json:
    found: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": []}
    for ref in tools.repositories.refs(space.id):
        kind = "tags" if ref.ref.startswith("refs/tags/") else "branches"
        found[kind].append({"name": ref.name, "ref": ref.ref, "targetCommit": ref.sha})
    if flag(request.query_params.get("include_prs")) or request.query_params.get("include_prs") == "1":
        found["pullRequests"] = []
    return Json(found)


@router.get("/commits/{rev}")
def commits(request: Request, tools: Tools, space: Readable, rev: str) -> Json:
    sha = resolved(tools, space, rev)
    page, size = page_start(request, "p"), page_size(request, default=50, most=1000)
    found = tools.repositories.commits(space.id, sha, limit=size + 1, skip=page * size)
    wanted = {*request.query_params.getlist("expand[]"), *request.query_params.getlist("expand")}
    shown = [_commit(commit, formatted="formatted" in wanted) for commit in found[:size]]
    return Json(shown, headers=next_link(request, p=page + 1) if len(found) > size else {})


def _commit(commit: Commit, *, formatted: bool) -> dict[str, Any]:
    message = commit.message.removeprefix(commit.title).strip()
    shown: dict[str, Any] = {
        "id": commit.sha,
        "title": commit.title,
        "message": message,
        "date": zulu(commit.at),
        "authors": [{"user": commit.author, "avatar": ""}],
    }
    if formatted:
        shown["formatted"] = {"title": html.escape(commit.title), "message": html.escape(message)}
    return shown
