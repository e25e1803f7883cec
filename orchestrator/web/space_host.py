"""The one address of ours on a Space's own host: what the waking page asks for while it waits.

It is reached by the Space's host name, so no session of ours comes with it, and it tells only what every visitor of
the Space may know. It is asked past the gateway's check, so it checks the visitors of private Spaces itself, by what
the gateway goes by too; for all others a private Space is missing.
"""

from fastapi import APIRouter, Request

from orchestrator.domain.credentials import Credentials, credentials
from orchestrator.domain.lifecycle import Stage, plain
from orchestrator.errors import Missing
from orchestrator.flows.status import status
from orchestrator.web.api.common import Tools
from orchestrator.web.responses import Json
from orchestrator.web.visitors import may_visit

router = APIRouter(prefix="/.dormouse")
_LOG_LINES = 12
_LINE_MAX = 300
_STARTS = (Stage.BUILDING, Stage.APP_STARTING)
"""Whoever waits for a start may see how it goes; what an app writes at other times is its owner's alone."""


@router.get("/status")
def space_status(request: Request, tools: Tools) -> Json:
    host = request.headers.get("host", "").rpartition("@")[2].partition(":")[0].lower()
    space = tools.store.space_by_host(host)
    if space is None or space.stage is Stage.DELETING or not may_visit(tools, space, _shown(request)):
        raise Missing("There is no Space at this address.")
    found = status(tools, space, now=tools.clock())
    shows_log = not found.serving and plain(space.stage) in _STARTS
    tail = (
        tools.logs.tail_run(space.id, _LOG_LINES, since=space.wake_asked_at or space.stage_since) if shows_log else ()
    )
    return Json(
        {
            "stage": found.stage.value,
            "phase": found.phase,
            "since": found.since,
            "detail": found.detail,
            "message": found.message,
            "eta_s": found.eta_s,
            "elapsed_s": round(found.elapsed_s, 3),
            "serving": found.serving,
            "place": found.place,
            "log": [line.text[:_LINE_MAX] for line in tail],
            "page": f"{tools.settings.public_url}/spaces/{space.full_name}",
        },
        headers={"Cache-Control": "no-store"},
    )


def _shown(request: Request) -> Credentials:
    headers = {name: ",".join(request.headers.getlist(name)) for name in request.headers}
    return credentials(headers, "?" + request.scope["query_string"].decode("latin-1"))
