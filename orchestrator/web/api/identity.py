"""Who am I, is this README usable, and the calls that clients make in the background."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from builder.domain.card import Card, read_card
from orchestrator.errors import Missing
from orchestrator.web import auth
from orchestrator.web.api import views
from orchestrator.web.api.common import Body, Tools, text
from orchestrator.web.responses import Json

router = APIRouter(prefix="/api")
_COUNTED_MAX = 1000


@router.get("/agent-harnesses")
def agent_harnesses() -> Json:
    return Json({"standardEnvVars": [], "harnesses": {}})


@router.api_route("/telemetry/{topic:path}", methods=["HEAD", "GET"])
def telemetry(topic: str) -> Response:
    """Clients report what they do to the Hub that they use. It ends here."""
    return Response()


@router.get("/whoami-v2")
def whoami(request: Request) -> Json:
    caller = auth.signed_in(request)
    assert caller.user is not None
    return Json(views.whoami(caller.user, caller.token, caller.role))


@router.post("/validate-yaml")
def validate_yaml(body: Body) -> Json:
    """Asks for no token: clients call it before anything else, and crash where the answer is no JSON object."""
    content = text(body, "content", limit=1 << 20)
    card = read_card(content.encode("utf-8", "replace"))
    errors: list[dict[str, Any]] = []
    if not isinstance(card, Card):
        errors = [{"message": f"{found.file}:{found.line}: {found.message}"} for found in card]
    return Json({"errors": errors, "warnings": []}, 400 if errors else 200)


@router.get("/users/{name}/overview")
def user_overview(tools: Tools, request: Request, name: str) -> Json:
    caller = auth.identify(request)
    user = tools.store.find_user(name[:96])
    if user is None:
        raise Missing(f"There is no user {name[:96]!r}.", "other")
    sees_all = caller is not None and caller.user is not None and caller.user.is_admin
    spaces = tools.store.list_spaces(
        owner=user.name,
        limit=_COUNTED_MAX,
        visible_to=caller.user.id if caller and caller.user else None,
        everything=sees_all,
    )
    return Json(views.overview(user, len(spaces)))
