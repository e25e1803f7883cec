"""The life of a Space: hardware, sleep, pause, restart. Each answer shows the stage after the order."""

import os

from fastapi import APIRouter, Request

from orchestrator.domain.space import RouteMode, Space
from orchestrator.errors import Invalid
from orchestrator.flows import life
from orchestrator.web.api import views
from orchestrator.web.api.common import Body, Readable, Tools, Writable, flag, text, whole
from orchestrator.web.context import Context
from orchestrator.web.responses import Json

router = APIRouter(prefix="/api/spaces")


def check_hardware(flavor: str) -> None:
    """Raises Invalid for hardware that this installation has not."""
    if flavor and flavor != views.HARDWARE:
        raise Invalid(f"This installation has no hardware {flavor[:60]!r}: Spaces run on {views.HARDWARE} here.")


@router.get("/hardware")
def hardware_list(tools: Tools) -> Json:
    basic = {
        "name": views.HARDWARE,
        "prettyName": "CPU basic",
        "cpu": f"{os.cpu_count() or 1} vCPU, shared",
        "ram": f"{tools.settings.memory_mb / 1024:g} GB",
        "ephemeralStorage": f"{tools.settings.disk_mb / 1024:g} GB",
        "accelerator": None,
        "unitCostMicroUSD": 0,
        "unitCostUSD": 0,
        "unitLabel": "minute",
    }
    return Json([basic])


def _shown(tools: Context, space: Space) -> Json:
    route = tools.store.route(space.host)
    serving = route is not None and route.mode is not RouteMode.GONE
    return Json(views.runtime(tools.settings, space, serving=serving))


@router.get("/{owner}/{name}/runtime")
def runtime(tools: Tools, space: Readable) -> Json:
    return _shown(tools, space)


@router.post("/{owner}/{name}/hardware")
def set_hardware(tools: Tools, space: Writable, body: Body) -> Json:
    check_hardware(text(body, "flavor"))
    seconds = whole(body, "sleepTimeSeconds")
    if seconds is not None:
        space = life.set_sleep_time(tools, space, seconds, now=tools.clock())
    return _shown(tools, space)


@router.post("/{owner}/{name}/sleeptime")
def set_sleep_time(tools: Tools, space: Writable, body: Body) -> Json:
    seconds = whole(body, "seconds")
    if seconds is None:
        raise Invalid("`seconds` is missing: write the idle seconds until sleep, or -1 for never.")
    return _shown(tools, life.set_sleep_time(tools, space, seconds, now=tools.clock()))


@router.delete("/{owner}/{name}/sleeptime")
def forget_sleep_time(tools: Tools, space: Writable) -> Json:
    """Ours: back to the installation's default."""
    return _shown(tools, life.set_sleep_time(tools, space, None, now=tools.clock()))


@router.post("/{owner}/{name}/pause")
def pause(tools: Tools, space: Writable) -> Json:
    return _shown(tools, life.pause(tools, space, now=tools.clock()))


@router.post("/{owner}/{name}/restart")
def restart(request: Request, tools: Tools, space: Writable) -> Json:
    factory = flag(request.query_params.get("factory") or request.query_params.get("factory_reboot"))
    return _shown(tools, life.restart(tools, space, factory=factory, now=tools.clock()))


@router.post("/{owner}/{name}/sleep")
def sleep(tools: Tools, space: Writable) -> Json:
    """Ours: put it to sleep now."""
    return _shown(tools, life.sleep(tools, space, now=tools.clock()))


@router.post("/{owner}/{name}/wake")
def wake(tools: Tools, space: Writable) -> Json:
    """Ours: wake it as a visit would."""
    return _shown(tools, life.wake(tools, space, now=tools.clock()))
