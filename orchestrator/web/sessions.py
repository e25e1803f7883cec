"""Signing in and out: a token is exchanged for a session cookie.

The cookie is host-only (Spaces never get it), HttpOnly and SameSite=Lax; the database has only its hash, and which
token it was made with, because a session ends with its token. Wrong tries are slowed down and, per client address,
counted; tokens cannot be guessed, but the log of a site that lets anybody try without end is of no use either. A token
that is right is never refused for that: many share an address, and one of them must not lock out the others.
"""

import asyncio
import secrets
from collections import OrderedDict

import structlog
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from orchestrator.domain.space import User
from orchestrator.errors import Missing, Unauthenticated
from orchestrator.flows.dispatch_build import token_hash
from orchestrator.web.auth import SESSION_COOKIE, SESSION_LABEL, SESSION_S, session_of
from orchestrator.web.context import Context, context_of
from orchestrator.web.errors import TooMany
from orchestrator.web.responses import Json, scheme

log = structlog.get_logger()
router = APIRouter()

TRIES_MAX = 10
TRIES_PERIOD_S = 60.0
SESSIONS_MAX = 50
"""Of one person; whoever signs in once more ends the oldest."""
WRONG_DELAY_S = 0.3
SPACES_NAME_FOR_US = "dormouse.internal"
"""The name under which Spaces reach us, and nobody else."""
_ADDRESSES_MAX = 10_000


class Tries:
    """Wrong tries per client address, in bounded memory."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, address: str, now: float) -> None:
        """Raises TooMany after too many wrong tries."""
        count, since = self._known.get(address, (0, now))
        if count >= TRIES_MAX and now - since < TRIES_PERIOD_S:
            wait = TRIES_PERIOD_S - (now - since)
            raise TooMany(f"Too many wrong tokens from this address. Try again in {wait:.0f} seconds.", wait)

    def wrong(self, address: str, now: float) -> None:
        count, since = self._known.pop(address, (0, now))
        if now - since >= TRIES_PERIOD_S:
            count, since = 0, now
        self._known[address] = (count + 1, since)
        if len(self._known) > _ADDRESSES_MAX:
            self._known.popitem(last=False)


@router.post("/login")
async def sign_in(request: Request) -> Response:
    """Form fields `token` and `next` (a path of ours). Goes to `next`, or shows the form again with the reason."""
    context, tries, address = context_of(request), _tries(request), client_key(request)
    form = await request.form(max_files=0, max_fields=20)
    token, target = _text(form.get("token")).strip(), safe_target(_text(form.get("next")))
    session = await run_in_threadpool(_open_session, context, token)
    if session is None:
        tries.check(address, context.clock())
        tries.wrong(address, context.clock())
        log.info("sign_in_refused", address=address)
        await asyncio.sleep(WRONG_DELAY_S)
        message = "This token is wrong, has expired or was revoked."
        if "text/html" not in request.headers.get("accept", ""):
            raise Unauthenticated(message)
        page = request.app.state.login_page
        return await run_in_threadpool(page, request, next_path=target, message=message, status_code=401)
    response = RedirectResponse(target, 303)
    response.set_cookie(
        SESSION_COOKIE, session, max_age=SESSION_S, path="/", httponly=True, samesite="lax",
        secure=scheme(request) == "https",
    )  # fmt: skip
    return response


@router.post("/logout")
async def sign_out(request: Request) -> Response:
    """Ends the session, here and in the database."""
    await run_in_threadpool(_close_session, context_of(request), session_of(request))
    html = "text/html" in request.headers.get("accept", "")
    response = RedirectResponse("/", 303) if html else Json({})
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="lax")
    return response


def _open_session(context: Context, token: str) -> str | None:
    now = context.clock()
    try:
        found = context.store.find_token(token_hash(token), now) if 0 < len(token) <= 500 else None
    except UnicodeEncodeError:
        return None
    if found is None or found[0].is_session:
        return None
    token_row, user = found
    session = secrets.token_urlsafe(32)
    ends = min(now + SESSION_S, token_row.expires_at or now + SESSION_S)
    try:
        context.store.add_token(
            user.id, token_hash=token_hash(session), label=SESSION_LABEL, role=token_row.role, now=now,
            expires_at=ends, parent_id=token_row.id,
        )  # fmt: skip
    except Missing:
        return None  # The token was revoked at this very moment.
    _end_oldest(context, user)
    log.info("signed_in", user=user.name)
    return session


def _end_oldest(context: Context, user: User) -> None:
    sessions = [row for row in context.store.list_tokens(user.id) if row.is_session]
    for row in sessions[:-SESSIONS_MAX]:
        context.store.revoke_token(user.id, row.id)


def _close_session(context: Context, session: str) -> None:
    found = context.store.find_token(token_hash(session), context.clock()) if session else None
    if found is not None and found[0].is_session:
        context.store.revoke_token(found[1].id, found[0].id)


def safe_target(target: str) -> str:
    """`target` if it is a path on our own host, else the start page: no link sends people elsewhere through us."""
    ok = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable() and len(target) < 2000
    return target if ok and "\\" not in target else "/"


def client_address(request: Request) -> str:
    """The visitor's address as our gateway saw it: the last one it added."""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return (forwarded or (request.client.host if request.client else ""))[:60] or "unknown"


def client_key(request: Request) -> str:
    """Under what a stranger is counted. Spaces come from this machine's own address: their name for us tells them from
    the people who sit at it."""
    host = request.headers.get("host", "").rpartition("@")[2].partition(":")[0].rstrip(".").lower()
    from_space = host == SPACES_NAME_FOR_US or host.endswith("." + SPACES_NAME_FOR_US)
    return f"space {client_address(request)}" if from_space else client_address(request)


def _tries(request: Request) -> Tries:
    tries: Tries = request.app.state.tries
    return tries


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
