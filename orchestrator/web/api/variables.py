"""Variables and secrets of a Space. Values of secrets go in and never come out."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from orchestrator.domain.space import Space, Variable
from orchestrator.flows import life
from orchestrator.web.api.common import Body, Tools, Writable, text
from orchestrator.web.context import Context
from orchestrator.web.dates import zulu
from orchestrator.web.responses import Json

router = APIRouter(prefix="/api/spaces/{owner}/{name}")


def _set(tools: Context, space: Space, body: dict[str, Any], *, secret: bool) -> None:
    variable = Variable(
        key=text(body, "key", limit=200),
        value=text(body, "value", limit=1 << 17),
        description=text(body, "description"),
    )
    life.set_variable(tools, space, variable, secret=secret, now=tools.clock())


def _map(rows: Sequence[Variable], *, values: bool) -> dict[str, dict[str, Any]]:
    return {
        row.key: {
            "key": row.key,
            **({"value": row.value} if values else {}),
            "description": row.description,
            "updatedAt": zulu(row.updated_at),
        }
        for row in rows
    }


@router.get("/variables")
def variables(tools: Tools, space: Writable) -> Json:
    return Json(_map(tools.store.variables(space.id), values=True))


@router.post("/variables")
def set_variable(tools: Tools, space: Writable, body: Body) -> Json:
    _set(tools, space, body, secret=False)
    return Json(_map(tools.store.variables(space.id), values=True))


@router.delete("/variables")
def delete_variable(tools: Tools, space: Writable, body: Body) -> Json:
    life.delete_variable(tools, space, text(body, "key", limit=200), secret=False, now=tools.clock())
    return Json(_map(tools.store.variables(space.id), values=True))


@router.get("/secrets")
def secrets(tools: Tools, space: Writable) -> Json:
    return Json(_map(tools.store.secrets(space.id), values=False))


@router.post("/secrets")
def set_secret(tools: Tools, space: Writable, body: Body) -> Json:
    _set(tools, space, body, secret=True)
    return Json(_map(tools.store.secrets(space.id), values=False))


@router.delete("/secrets")
def delete_secret(tools: Tools, space: Writable, body: Body) -> Json:
    life.delete_variable(tools, space, text(body, "key", limit=200), secret=True, now=tools.clock())
    return Json(_map(tools.store.secrets(space.id), values=False))
