"""Ours, beside the Hub's contract: builds, revisions and history of a Space."""

from fastapi import APIRouter, Request

from orchestrator.domain.names import BuildId
from orchestrator.errors import Missing
from orchestrator.web.api import views
from orchestrator.web.api.common import Readable, Tools, Writable, page_size
from orchestrator.web.responses import Json

router = APIRouter(prefix="/api/spaces/{owner}/{name}")


@router.get("/builds")
def builds(request: Request, tools: Tools, space: Readable) -> Json:
    """Newest first."""
    rows = tools.store.builds(space.id, limit=page_size(request, default=20, most=200))
    return Json([views.build(row) for row in rows])


@router.get("/builds/{build_id}")
def build(tools: Tools, space: Readable, build_id: str) -> Json:
    row = tools.store.build(BuildId(build_id[:100]))
    if row is None or row.space_id != space.id:
        raise Missing(f"{space.full_name} has no build {build_id[:100]!r}.", "other")
    return Json(views.build(row))


@router.get("/revisions")
def revisions(request: Request, tools: Tools, space: Readable) -> Json:
    """Commits that were built, newest first, with the requirements they were resolved to."""
    rows = tools.store.revisions(space.id, limit=page_size(request, default=20, most=100))
    return Json([views.revision(row) for row in rows])


@router.get("/history")
def history(request: Request, tools: Tools, space: Writable) -> Json:
    """What happened to the Space, newest first."""
    rows = tools.store.history(space.id, limit=page_size(request, default=50, most=500))
    return Json([views.event(row) for row in rows])
