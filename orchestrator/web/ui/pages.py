"""The pages that are not of one Space: the store, signing in, a new Space, tokens; and the door to all the others."""

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from orchestrator.domain.lifecycle import ERRORS, Stage
from orchestrator.domain.space import RouteMode, Space
from orchestrator.web import auth
from orchestrator.web.context import Context, context_of
from orchestrator.web.responses import base_url
from orchestrator.web.sessions import safe_target
from orchestrator.web.ui import admin_pages, file_pages, present, present_admin, rendering, space_pages, text
from orchestrator.web.ui.rendering import need_user, render, shell, stranger_shell, templates
from orchestrator.web.ui.view_models import ErrorPage, LoginPage, NewPage, StorePage
from orchestrator.web.ui.view_models_admin import (
    TokensPage,
)

__all__ = ["render_error", "render_login", "router", "templates"]

CARDS_PER_PAGE = 24
SDKS = (
    ("gradio", "Gradio: a Python app with a Gradio interface"),
    ("streamlit", "Streamlit: a Python script with a Streamlit interface"),
    ("static", "Static: HTML, CSS and JavaScript"),
    ("asgi", "ASGI: FastAPI, Starlette or another Python web app"),
)
router = APIRouter(include_in_schema=False)


@router.get("/")
def store_page(request: Request, search: str = "", owner: str = "", after: str = "") -> HTMLResponse:
    user, tools, moment = auth.current_user(request), context_of(request), context_of(request).clock()
    search, owner = text.tidy(search, 100), text.tidy(owner, 96)
    position = _position(after)
    found = tools.store.list_spaces(
        owner=owner or None,
        search=search or None,
        limit=CARDS_PER_PAGE + 1,
        after=position,
        visible_to=user.id if user else None,
        everything=bool(user and user.is_admin),
    )
    shown = found[:CARDS_PER_PAGE]
    page = StorePage(
        shell=shell(request, "Apps", "store"),
        cards=tuple(
            present.card(space, serving=_serves(tools, space), now=moment)
            for space in shown
            if space.stage is not Stage.DELETING
        ),
        search=search,
        owner=owner,
        next_page=_next_page(shown[-1], search, owner) if len(found) > CARDS_PER_PAGE else "",
        is_first=position is None,
        help=present.publish_help(base_url(request), user.name if user else "OWNER", "my-app" if user else "NAME"),
    )
    return render(request, "store.html", page)


def _serves(tools: Context, space: Space) -> bool:
    """Whether an older version serves; asked only where the stage does not say so already."""
    if space.stage not in ERRORS:
        return False
    route = tools.store.route(space.host)
    return route is not None and route.mode is not RouteMode.GONE


def _position(after: str) -> tuple[float, str] | None:
    when, separator, space_id = after.partition("_")
    try:
        return (float(when), space_id[:100]) if separator else None
    except ValueError:
        return None


def _next_page(last: Space, search: str, owner: str) -> str:
    wanted = {"search": search, "owner": owner, "after": f"{last.updated_at!r}_{last.id}"}
    return "/?" + urlencode({key: value for key, value in wanted.items() if value})


@router.get("/login", response_model=None)
def login_page(request: Request, next: str = "/") -> HTMLResponse | RedirectResponse:  # noqa: A002
    """The form; signing in leads on to `next`."""
    if auth.current_user(request) is not None:
        return RedirectResponse(safe_target(next), status_code=303)
    return render_login(request, next_path=next)


def render_login(request: Request, *, next_path: str, message: str = "", status_code: int = 200) -> HTMLResponse:
    """The sign-in page; also what a failed try gets, with the reason."""
    page = LoginPage(shell=shell(request, "Sign in"), next_path=safe_target(next_path), message=message)
    return render(request, "login.html", page, status_code=status_code)


@router.get("/new")
def new_page(request: Request) -> HTMLResponse:
    user = need_user(request)
    users = context_of(request).store.list_users() if user.is_admin else ()
    page = NewPage(
        shell=shell(request, "New Space", "new"),
        owners=present.owners(user, users),
        sdks=SDKS,
        help=present.publish_help(base_url(request), user.name, "NAME"),
    )
    return render(request, "new.html", page)


@router.get("/settings")
def settings_door() -> RedirectResponse:
    return RedirectResponse("/settings/tokens")


@router.get("/settings/tokens")
def tokens_page(request: Request) -> HTMLResponse:
    user = need_user(request)
    tokens, moment = context_of(request).store.list_tokens(user.id), context_of(request).clock()
    caller = auth.identify(request)
    current = caller.token.id if caller and caller.token else ""
    page = TokensPage(
        shell=shell(request, "Access tokens", "tokens"),
        tokens=present_admin.token_rows(tokens, now=moment),
        sessions=present_admin.session_rows(tokens, current=current, now=moment),
        base=base_url(request),
    )
    return render(request, "tokens.html", page)


_GO_BACK = "Go back, correct it and try again."
_ERRORS = {
    400: ("That request cannot be used", _GO_BACK),
    401: ("Sign in to see this", "Sign in with an access token and you come back here."),
    403: ("This is not yours to open", "Ask its owner or an administrator, or sign in as somebody else."),
    404: ("Nothing here", "Look for it in the list of apps. If it is private, sign in first."),
    405: ("That cannot be done here", "Go back and use the buttons of the page."),
    409: ("Somebody was faster", "Load the page anew and look at what has changed."),
    503: ("One moment, please", "A part of Dormouse is away for the moment. Load the page again in a few seconds."),
}
_OURS = ("Something went wrong on our side", "Try again. If it stays, tell an administrator when it happened.")


def render_error(request: Request, status: int, message: str) -> HTMLResponse:
    """Any error as a page: what it is, the message of the error, and what to do next."""
    headline, next_step = _ERRORS.get(status, _OURS if status >= 500 else _ERRORS[400])
    try:
        head = shell(request, headline)
    except Exception:  # Whatever broke the page may break this too, and the visitor still needs an answer.
        head = stranger_shell(request, headline)
    page = ErrorPage(
        shell=head,
        status=status,
        headline=headline,
        message=text.tidy(message, 1000),
        next_step=next_step,
        offer_login=not head.user_name and status in (401, 403, 404),
    )
    return render(request, "error.html", page, status_code=status)


for part in (rendering.router, admin_pages.router, file_pages.router, space_pages.router):
    router.include_router(part)
