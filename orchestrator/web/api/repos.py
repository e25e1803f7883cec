"""Creating and deleting a Space."""

from typing import Any

from fastapi import APIRouter, Request

from orchestrator.domain.names import SpaceName, check_owner, check_part
from orchestrator.domain.space import Space, Variable
from orchestrator.errors import Conflict, Invalid
from orchestrator.flows import life
from orchestrator.flows.create_space import create_space
from orchestrator.web import auth
from orchestrator.web.api import views
from orchestrator.web.api.common import Body, Tools, text, whole
from orchestrator.web.api.runtime import check_hardware
from orchestrator.web.responses import Json

router = APIRouter(prefix="/api/repos")
_ITEMS_MAX = 200


@router.post("/create")
def create(request: Request, tools: Tools, body: Body) -> Json:
    """Where the Space exists the answer is a 409 that still names its address: clients with `exist_ok` read it."""
    caller = auth.signed_in_writer(request)
    assert caller.user is not None
    _only_spaces(body)
    name = _name(body, caller.user.name)
    check_hardware(text(body, "hardware"))
    for unknown in ("template", "volumes"):
        if body.get(unknown):
            raise Invalid(f"Dormouse has no {unknown} for Spaces; leave `{unknown}` out.")
    try:
        space = create_space(
            tools,
            caller.user,
            name,
            sdk=text(body, "sdk", "gradio"),
            visibility=_visibility(body),
            sleep_time_s=whole(body, "sleepTimeSeconds"),
            secrets=_items(body, "secrets"),
            variables=_items(body, "variables"),
            now=tools.clock(),
        )
    except Conflict as error:
        raise Conflict(str(error), url=views.space_url(request, str(name))) from error
    url = views.space_url(request, space.full_name)
    return Json({"url": url, "name": space.full_name, "id": space.id, "private": space.visibility != "public"})


@router.delete("/delete")
def delete(request: Request, tools: Tools, body: Body) -> Json:
    caller = auth.identify(request)
    _only_spaces(body)
    name = _name(body, caller.user.name if caller and caller.user else "")
    space: Space = auth.changeable(tools.store.find_space(name), caller, str(name))
    life.delete(tools, space, now=tools.clock())
    return Json({})


def _only_spaces(body: dict[str, Any]) -> None:
    if text(body, "type", "model") != "space":
        raise Invalid("Dormouse hosts Spaces only: give the repository type `space`.")


def _name(body: dict[str, Any], own: str) -> SpaceName:
    """`name` may be given as owner/name, with an `organization`, or bare for the caller's own."""
    owner, slash, name = text(body, "name").rpartition("/")
    owner = owner if slash else text(body, "organization") or own
    return SpaceName(check_owner(owner), check_part(name, "Space"))


def _visibility(body: dict[str, Any]) -> str:
    if body.get("visibility") is not None:
        return text(body, "visibility")
    return "private" if body.get("private") is True else "public"


def _items(body: dict[str, Any], key: str) -> list[Variable]:
    items = body.get(key) or []
    if not isinstance(items, list) or len(items) > _ITEMS_MAX or not all(isinstance(item, dict) for item in items):
        raise Invalid(f"`{key}` must be a list of at most {_ITEMS_MAX} objects with `key` and `value`.")
    return [
        Variable(
            key=text(item, "key", limit=200),
            value=text(item, "value", limit=1 << 17),
            description=text(item, "description"),
        )
        for item in items
    ]
