"""Ours: how the installation is doing, for admins and monitoring."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from orchestrator import metrics
from orchestrator.errors import Unavailable
from orchestrator.web import auth
from orchestrator.web.api.common import Tools
from orchestrator.web.context import Context
from orchestrator.web.dates import zulu
from orchestrator.web.responses import Json

router = APIRouter()
GATEWAY_ALIVE_S = 15.0
ASK_S = 3.0


@router.get("/healthz")
def healthz(tools: Tools) -> Json:
    """Answers 200 while requests can be served: this process lives and its database answers."""
    tools.store.get_value("health")
    return Json({"status": "ok"})


@router.get("/metrics")
def samples(request: Request) -> Response:
    auth.admin(request, changes=False)
    content, media_type = metrics.render()
    return Response(content, media_type=media_type)


@router.get("/api/admin/overview")
async def overview(request: Request, tools: Tools) -> Json:
    await run_in_threadpool(auth.admin, request, changes=False)
    isolation = await _isolation(tools)
    rest = await run_in_threadpool(_rest, tools)
    return Json({"isolation": isolation, **rest})


async def _isolation(tools: Context) -> dict[str, Any] | None:
    if tools.runtime is None:
        return None
    try:
        async with asyncio.timeout(ASK_S):
            found = await tools.runtime.isolation()
    except (Unavailable, TimeoutError):
        return None
    return {"name": found.name, "level": found.level, "features": dict(found.features)}


def _rest(tools: Context) -> dict[str, Any]:
    """Processes as others see them: workers by the broker, gateways by their reports."""
    try:
        workers: int | None = tools.build_queue.workers()
    except Unavailable:
        workers = None
    gateways = tools.store.gateways(tools.clock() - GATEWAY_ALIVE_S)
    return {
        "processes": {
            "workers": workers,
            "gateways": [{"id": g.id, "acked": g.acked, "seenAt": zulu(g.seen_at)} for g in gateways],
            "runtime": tools.runtime is not None,
        },
        "builds": {"unfinished": len(tools.store.unfinished_builds())},
        "spaces": {stage.value: count for stage, count in tools.store.count_by_stage().items()},
    }
