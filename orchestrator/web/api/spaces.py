"""Spaces as a list and one by one."""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request

from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.space import Space
from orchestrator.errors import Invalid, Missing, Refused
from orchestrator.flows.status import status
from orchestrator.web import auth
from orchestrator.web.api import views
from orchestrator.web.api.common import Readable, Tools, flag, page_size, readable, resolved, writable
from orchestrator.web.context import Context
from orchestrator.web.dates import zulu
from orchestrator.web.responses import Json, next_link
from orchestrator.web.visitors import signed_token

router = APIRouter(prefix="/api/spaces")
_SORTS = {"createdAt": "created_at", "created_at": "created_at"}
_SCANNED_MAX = 2000
_BATCH = 200


@router.get("")
def list_spaces(request: Request, tools: Tools) -> Json:
    """Newest first. Filters are looked at one Space after the other, so a page may stop early; its link goes on."""
    caller = auth.identify(request)
    limit = page_size(request, default=100, most=500)
    sort = _SORTS.get(request.query_params.get("sort", ""), "updated_at")
    position = _position(request.query_params.get("cursor"))
    found: list[Space] = []
    scanned, ended = 0, False
    while len(found) < limit and scanned < _SCANNED_MAX and not ended:
        rows = tools.store.list_spaces(
            owner=request.query_params.get("author") or None,
            search=(request.query_params.get("search") or "")[:200] or None,
            sort=sort,
            limit=_BATCH,
            after=position,
            visible_to=caller.user.id if caller and caller.user else None,
            everything=caller is not None and caller.user is not None and caller.user.is_admin,
        )
        ended = len(rows) < _BATCH
        for row in rows:
            if len(found) == limit:
                ended = False
                break
            scanned, position = scanned + 1, (getattr(row, sort), row.id)
            if row.stage is not Stage.DELETING and _matches(request, row):
                found.append(row)
    shown = [_listed(request, tools, space) for space in found]
    headers = {} if ended or position is None else next_link(request, cursor=_cursor(position))
    return Json(shown, headers=headers)


def _listed(request: Request, tools: Context, space: Space) -> dict[str, Any]:
    wanted = request.query_params.getlist("expand")
    info = views.space_info(tools.settings, space)
    return views.only(info, wanted) if wanted else info


def _matches(request: Request, space: Space) -> bool:
    tags = {tag.lower() for tag in views.tags(space)}
    if not all(wanted.lower() in tags for wanted in request.query_params.getlist("filter")):
        return False
    for kind in ("models", "datasets"):
        linked, wanted = space.card.get(kind), request.query_params.getlist(kind)
        if wanted and not (isinstance(linked, list | tuple) and set(wanted) & {str(item) for item in linked}):
            return False
    return True


def _cursor(position: tuple[float, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _position(cursor: str | None) -> tuple[float, str] | None:
    if not cursor:
        return None
    try:
        value, space_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(value, int | float) and math.isfinite(value) and isinstance(space_id, str):
            return float(value), space_id[:100]
    except (binascii.Error, ValueError, TypeError, OverflowError):
        pass
    raise Invalid("`cursor` must come from the link of an earlier page.")


@router.get("/by-subdomain/{label}")
def by_subdomain(request: Request, tools: Tools, label: str) -> Json:
    host = f"{label[:100].lower()}.{tools.settings.spaces_domain}"
    space = auth.visible(tools.store.space_by_host(host), auth.identify(request), label)
    return Json(views.space_info(tools.settings, space))


@router.get("/{owner}/{name}")
def info(request: Request, tools: Tools, space: Readable) -> Json:
    return Json(_info(request, tools, space, "main", must_exist=False))


@router.get("/{owner}/{name}/revision/{rev}")
def info_at(request: Request, tools: Tools, space: Readable, rev: str) -> Json:
    return Json(_info(request, tools, space, rev, must_exist=True))


def _info(request: Request, tools: Context, space: Space, rev: str, *, must_exist: bool) -> Mapping[str, Any]:
    wanted = request.query_params.getlist("expand")
    if any(name not in views.EXPANDABLE for name in wanted):
        raise Invalid(f"`expand` takes these names only: {', '.join(views.EXPANDABLE)}.")
    sha, siblings = None, None
    try:
        sha = resolved(tools, space, rev)
    except Missing:
        if must_exist:
            raise
    if sha is not None and (not wanted or "siblings" in wanted):
        siblings = _siblings(request, tools, space, sha)
    shown = views.space_info(tools.settings, space, siblings=siblings or [], sha=sha)
    return views.only(shown, wanted) if wanted else shown


def _siblings(request: Request, tools: Context, space: Space, sha: str) -> Sequence[Mapping[str, Any]]:
    blobs = flag(request.query_params.get("blobs"))
    try:
        entries = tools.repositories.tree(space.id, sha, recursive=True)
    except Refused:
        # A tree that is too large to be listed must not hide the rest of the answer.
        return []
    return [views.sibling(entry, blobs=blobs) for entry in entries if entry.kind in ("file", "symlink")]


@router.get("/{owner}/{name}/auth-check")
def auth_check(space: Readable) -> Json:
    return Json({})


@router.get("/{owner}/{name}/auth-check/write")
def auth_check_write(request: Request, owner: str, name: str) -> Json:
    """Clients expect a Space that they may not change to look missing here."""
    space = readable(request, owner, name)
    try:
        writable(request, owner, name)
    except Refused as error:
        raise Missing(f"You may not change the Space {space.full_name}: {error}") from error
    return Json({})


@router.get("/{owner}/{name}/host")
def host(tools: Tools, space: Readable) -> Json:
    return Json({"host": tools.settings.host_url(space.host), "subdomain": views.subdomain(space)})


@router.get("/{owner}/{name}/jwt")
def visit_token(request: Request, tools: Tools, space: Readable) -> Json:
    """A token for the app itself, for whoever may read the Space: in its address (`?__sign=`), or as a Bearer token."""
    user = auth.signed_in(request).user
    assert user is not None
    return Json({"token": signed_token(tools, space, user)}, headers={"Cache-Control": "no-store"})


@router.get("/{owner}/{name}/status")
def space_status(request: Request, tools: Tools, space: Readable) -> Json:
    """Ours: the phase, since when, why, the place in line and what ends the wait."""
    found = status(tools, space, now=tools.clock())
    return Json(
        {
            "stage": found.stage.value,
            "phase": found.phase,
            "since": zulu(found.since),
            "detail": found.detail,
            "message": found.message,
            "eta_s": found.eta_s,
            "elapsed_s": round(found.elapsed_s, 3),
            "serving": found.serving,
            "place": found.place,
            "page": views.space_url(request, space.full_name),
            "url": tools.settings.host_url(space.host),
        }
    )
