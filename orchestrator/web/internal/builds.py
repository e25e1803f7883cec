"""What workers report. Every call shows the order's token; 409 tells a worker that its build is over."""

import asyncio
import time
from typing import Any

import structlog
from fastapi import APIRouter, Depends, Request
from prometheus_client import Histogram
from pydantic import TypeAdapter

from orchestrator.domain.space import Build, BuildStatus
from orchestrator.errors import Conflict, Missing, Unauthenticated
from orchestrator.flows.dispatch_build import token_hash
from orchestrator.flows.record_build import record_build
from orchestrator.ports import signals
from orchestrator.ports.build_queue import BuildResult, LogBatch, PhaseReport
from orchestrator.web.context import Context

router = APIRouter(prefix="/internal/builds")
log = structlog.get_logger()
BUILDS = Histogram(
    "dormouse_build_seconds",
    "From commit to the end of its build",
    ["outcome"],
    buckets=(0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280),
)
LOG_LINE_MAX = 4000
_RESULT, _PHASE, _LOG = TypeAdapter(BuildResult), TypeAdapter(PhaseReport), TypeAdapter(LogBatch)


def _own_build(request: Request, build_id: str) -> Build:
    """The unfinished build whose token the worker shows."""
    context: Context = request.app.state.context
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("A worker shows its order's token.")
    build = context.store.build_by_token(token_hash(token))
    if build is None or build.id != build_id:
        raise Conflict("This build is over, or another worker has it.")
    return build


@router.post("/{build_id}/lease")
async def lease(request: Request, build_id: str, worker: str = "worker") -> dict[str, Any]:
    context: Context = request.app.state.context
    build = await asyncio.to_thread(_own_build, request, build_id)
    now = time.time()
    until = now + context.settings.build_lease_s
    claim = context.store.build_claimed
    if not await asyncio.to_thread(claim, build.id, worker=worker[:200], lease_until=until, now=now):
        raise Conflict("This build is over, or another worker has it.")
    return {"lease_s": context.settings.build_lease_s}


@router.post("/{build_id}/phase")
async def phase(request: Request, build_id: str) -> dict[str, Any]:
    context: Context = request.app.state.context
    build = await asyncio.to_thread(_own_build, request, build_id)
    report = _PHASE.validate_json(await request.body())
    done = await asyncio.to_thread(
        context.store.build_phase, build.id, report.phase[:40], detail=report.detail[:300], now=time.time()
    )
    if not done:
        raise Conflict("This build is over.")
    await context.signals.send(signals.space_channel(build.space_id), "phase")
    return {}


@router.post("/{build_id}/log")
async def append_log(request: Request, build_id: str) -> dict[str, Any]:
    context: Context = request.app.state.context
    build = await asyncio.to_thread(_own_build, request, build_id)
    batch = _LOG.validate_json(await request.body())
    lines = [(at, text[:LOG_LINE_MAX]) for at, text in batch.lines]
    length = await asyncio.to_thread(context.logs.append_build, build.id, batch.first, lines)
    await context.signals.send(signals.space_channel(build.space_id), "log")
    return {"length": length}


@router.post("/{build_id}/result")
async def result(request: Request, build_id: str, build: Build = Depends(_own_build)) -> dict[str, Any]:  # noqa: B008
    context: Context = request.app.state.context
    outcome = _RESULT.validate_json(await request.body())
    if (outcome.image is None) == (outcome.failure is None):
        raise Conflict("A result has either an image or a failure.")
    space = await asyncio.to_thread(context.store.space, build.space_id)
    if space is None:
        raise Missing("The Space of this build is gone.")
    now = time.time()
    if not await asyncio.to_thread(record_build, context, space, build, outcome, now=now):
        raise Conflict("This build is over, or another worker has it.")
    status = BuildStatus.SUCCEEDED if outcome.image else BuildStatus.FAILED
    BUILDS.labels(status.value).observe(now - build.created_at)
    return {}
