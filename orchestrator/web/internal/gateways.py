"""What a gateway's agent asks and reports. Only hosts and addresses pass here, never a visitor's bytes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from orchestrator.domain.space import Route, RouteMode, Space
from orchestrator.flows.visit import visit
from orchestrator.ports import signals
from orchestrator.web.context import Context
from orchestrator.web.internal.announcer import Announcer
from orchestrator.web.visitors import opened_by

router = APIRouter(prefix="/internal")
HEARTBEAT_S = 2.0


class Report(BaseModel):
    """Sign of life of a gateway; maps hold hosts with news only, except `quiet`, which is complete."""

    acked: int | None = None
    quiet: dict[str, int] = Field(default_factory=dict)
    active: dict[str, float] = Field(default_factory=dict)
    moved: dict[str, float] = Field(default_factory=dict)


class Held(BaseModel):
    """A request that the gateway holds, or a browser that it shows the waking page."""

    host: str = Field(max_length=255)
    path: str = ""
    method: str = "GET"
    gateway: str = ""
    dead: str | None = None
    credentials: list[str] = Field(default_factory=list, max_length=8)
    """What the visitor shows, in case that the Space is private. Never logged."""


@router.get("/gateways/{gateway_id}/routes")
async def routes(request: Request, gateway_id: str, after: int = -1) -> StreamingResponse:
    context: Context = request.app.state.context
    stream = _stream(context, request.app.state.announcer, after)
    return StreamingResponse(stream, media_type="application/x-ndjson")


async def _stream(context: Context, announcer: Announcer, after: int) -> AsyncIterator[str]:
    full = after < 0 or after < await asyncio.to_thread(context.store.route_horizon)
    cursor = 0 if full else after
    while True:
        ticket = announcer.ticket()
        changed = await asyncio.to_thread(context.store.routes, cursor)
        shown = [route for route in changed if not (full and route.mode is RouteMode.GONE)]
        cursor = max([cursor, *(route.generation for route in changed)])
        yield json.dumps({"full": full, "generation": cursor, "routes": [_row(route) for route in shown]}) + "\n"
        full = False
        await announcer.wait(ticket, HEARTBEAT_S)


def _row(route: Route) -> dict[str, object]:
    return {
        "host": route.host,
        "mode": route.mode.value,
        "address": route.address,
        "generation": route.generation,
        "space_id": route.space_id,
        "private": route.private,
    }


@router.post("/gateways/{gateway_id}/report", status_code=204)
def report(request: Request, gateway_id: str, body: Report) -> Response:
    context: Context = request.app.state.context
    context.store.gateway_seen(gateway_id, acked=body.acked, quiet=body.quiet, now=time.time())
    if body.active or body.moved:
        context.store.touch(body.active, body.moved)
    for host in body.quiet:
        space = context.store.space_by_host(host)
        if space is not None:
            context.signals.send_soon(signals.CONTROLLER, space.id)
    return Response(status_code=204)


@router.post("/wake")
def wake(request: Request, body: Held) -> dict[str, object]:
    context: Context = request.app.state.context
    opened: int | None = None

    def may_read(space: Space) -> bool:
        nonlocal opened
        opened = opened_by(context, space, body.credentials)
        return opened is not None

    outcome = visit(context, body.host.lower(), dead=body.dead, may_read=may_read, now=time.time())
    space = outcome.space
    problem = space.problem if space else None
    return {
        "answer": outcome.answer,
        "stage": space.stage.value if space else "",
        "space": space.full_name if space else "",
        "title": space.title if space else "",
        "message": " ".join(part for part in (outcome.message, problem.message if problem else "") if part),
        "file": problem.file if problem else None,
        "line": problem.line if problem else None,
        "page": f"{context.settings.public_url}/spaces/{space.full_name}" if space else "",
        "retry_after_s": outcome.retry_after_s,
        "private": space is not None and space.visibility != "public",
        "opened_by": opened,
    }
