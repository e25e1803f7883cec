"""Templates, static files and what every page needs of its request.

Every value is escaped (autoescape on everything). A name that a template asks for and no view model has is an error,
never an empty spot. The content security policy allows nothing inline, so no template may hold a style or a script.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.templating import Jinja2Templates

from orchestrator.domain.space import Space, User
from orchestrator.errors import Missing, NotAllowed, Unauthenticated
from orchestrator.web import auth
from orchestrator.web.api.common import readable, writable
from orchestrator.web.context import context_of
from orchestrator.web.responses import base_url
from orchestrator.web.ui import text
from orchestrator.web.ui.present import Viewer
from orchestrator.web.ui.view_models import Shell

HERE = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    content: bytes
    media_type: str
    etag: str


def _read_assets() -> dict[str, Asset]:
    found = {}
    for path in sorted((HERE / "static").iterdir()):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            found[path.name] = Asset(content, _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:16])
    return found


ASSETS = _read_assets()
ASSETS_VERSION = hashlib.sha256("".join(asset.etag for asset in ASSETS.values()).encode()).hexdigest()[:12]

environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters["spans"] = text.spans
templates = Jinja2Templates(env=environment)
router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
def static_file(request: Request, name: str) -> Response:
    """One of the few files of ours; a versioned address may be kept for ever."""
    asset = ASSETS.get(name)
    if asset is None:
        raise Missing("There is no such file.", kind="other")
    versioned = request.query_params.get("v") == ASSETS_VERSION
    headers = {
        "ETag": f'"{asset.etag}"',
        "Cache-Control": "public, max-age=31536000, immutable" if versioned else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


def shell(request: Request, title: str, section: str = "") -> Shell:
    """The frame of a page for whoever asks."""
    user = auth.current_user(request)
    return _shell(request, title, section, user, auth.csrf_token(request))


def stranger_shell(request: Request, title: str) -> Shell:
    """The frame of a page where it cannot be told who asks: an error page must not become an error itself."""
    return _shell(request, title, "", None, "")


def _shell(request: Request, title: str, section: str, user: User | None, csrf: str) -> Shell:
    query = f"?{request.url.query}" if request.url.query else ""
    return Shell(
        title=text.tidy(title),
        user_name=user.name if user else "",
        is_admin=user.is_admin if user else False,
        csrf=csrf,
        section=section,
        here=f"{request.url.path}{query}"[:2000],
        now=int(context_of(request).clock()),
        assets=ASSETS_VERSION,
    )


def render(request: Request, template: str, page: Any, status_code: int = 200) -> HTMLResponse:
    """The page as HTML. It is made for one person at one moment, so nobody keeps it."""
    response = templates.TemplateResponse(request, template, {"page": page}, status_code=status_code)
    response.headers["Cache-Control"] = "no-store"
    return response


def need_user(request: Request) -> User:
    """Who is signed in; a stranger is sent to the sign-in page."""
    user = auth.current_user(request)
    if user is None:
        raise Unauthenticated("Sign in to see this page.")
    return user


def need_admin(request: Request) -> User:
    """The administrator who asks."""
    user = need_user(request)
    if not user.is_admin:
        raise NotAllowed("Only administrators may see this page.")
    return user


def find_space(request: Request, owner: str, name: str, *, write: bool = False) -> tuple[Space, Viewer]:
    """The Space of an address; with `write`, only for those who may change it."""
    space = writable(request, owner, name) if write else readable(request, owner, name)
    caller = auth.identify(request)
    writes = caller is not None and caller.may_write and caller.owns(space)
    return space, Viewer(may_write=writes, base=base_url(request))
