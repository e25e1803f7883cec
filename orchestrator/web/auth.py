"""Who is asking: a token in `Authorization` (Bearer, or Basic with the token as password), or a session cookie.

Cookies are sent by browsers whoever made the page, and Spaces are our neighbours on the same site; so a changing
request that relies on the cookie must also carry a token that only our own pages know, and come from our own origin.
Requests with `Authorization` need neither. Tokens are long and random; only their hashes are stored.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request

from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.space import Build, Space, Token, User
from orchestrator.errors import Missing, NotAllowed, Unauthenticated
from orchestrator.flows.dispatch_build import token_hash
from orchestrator.web.context import Context, context_of
from orchestrator.web.errors import BadToken

SESSION_COOKIE = "dormouse_session"
SESSION_S = 30 * 24 * 3600
SESSION_LABEL = "session"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
GIT_BODY = re.compile(r"/spaces/[^/]+/[^/]+/git-(upload|receive)-pack")
"""Addresses that take a body of any size, and no cookie."""
_TOKEN_MAX = 500


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A known caller: a person, or (for git only) a worker with the token of one build."""

    user: User | None
    role: str
    """read or write."""
    token: Token | None = None
    build: Build | None = None
    by_cookie: bool = False

    @property
    def may_write(self) -> bool:
        return self.role == "write"

    def owns(self, space: Space) -> bool:
        """Whether the Space is this caller's to change; admins may change every one."""
        return self.user is not None and (self.user.is_admin or self.user.name.lower() == space.owner.lower())

    def sees(self, space: Space) -> bool:
        if self.build is not None and self.build.space_id == space.id:
            return True
        return space.visibility == "public" or self.owns(space)


# --- identity -------------------------------------------------------------------------------------------------
def identify(request: Request, *, workers: bool = False) -> Caller | None:
    """The caller, or None for a stranger. Blocks. Raises BadToken for credentials that are wrong.

    `workers` is for git: it also lets in the tokens of unfinished builds, and no cookies.
    """
    known = getattr(request.state, "caller", None)
    if known is not None:
        return known  # type: ignore[no-any-return]
    context = context_of(request)
    header = request.headers.get("authorization")
    if header is not None:
        caller: Caller | None = _by_header(context, header, workers)
    else:
        caller = None if workers else _by_cookie(context, request)
    request.state.caller = caller
    return caller


def current_user(request: Request) -> User | None:
    """The person who is signed in, for pages. Blocks."""
    caller = identify(request)
    return caller.user if caller else None


def signed_in(request: Request) -> Caller:
    """The caller; raises Unauthenticated for strangers."""
    caller = identify(request)
    if caller is None or caller.user is None:
        raise Unauthenticated("Sign in first, or send a token: `Authorization: Bearer hf_...`.")
    return caller


def signed_in_writer(request: Request) -> Caller:
    """The caller, who may change things of his own."""
    caller = signed_in(request)
    if not caller.may_write:
        raise NotAllowed("This token may only read. Use one with the role `write`.")
    return caller


def admin(request: Request, *, changes: bool = True) -> Caller:
    """The caller, who is an admin; for what `changes` nothing a token that may only read will do."""
    caller = signed_in_writer(request) if changes else signed_in(request)
    if caller.user is None or not caller.user.is_admin:
        raise NotAllowed("Only an admin may do this.")
    return caller


def visible(space: Space | None, caller: Caller | None, name: str) -> Space:
    """The Space, if it exists and the caller may see it; raises Missing, in the same words for both reasons."""
    seen = space is not None and space.stage is not Stage.DELETING
    if space is None or not seen or not (caller.sees(space) if caller else space.visibility == "public"):
        raise Missing(f"There is no Space {name[:200]!r}, or it is private and you may not see it.")
    return space


def changeable(space: Space | None, caller: Caller | None, name: str) -> Space:
    """The Space, if the caller may change it; raises Missing, Unauthenticated or NotAllowed."""
    space = visible(space, caller, name)
    if caller is None:
        raise Unauthenticated("Sign in first, or send a token: `Authorization: Bearer hf_...`.")
    if not caller.may_write:
        raise NotAllowed("This token may only read. Use one with the role `write`.")
    if not caller.owns(space):
        raise NotAllowed(f"Only its owner or an admin may change the Space {space.full_name}.")
    return space


def _by_header(context: Context, header: str, workers: bool) -> Caller:
    kind, _, value = header.partition(" ")
    token = value.strip() if kind.lower() == "bearer" else _basic_password(value) if kind.lower() == "basic" else ""
    found = by_token(context, token) if token and len(token) <= _TOKEN_MAX else None
    if found is not None and found.token is not None and found.token.is_session:
        found = None  # What a cookie holds is no token: here it would pass without the checks against forged forms.
    elif found is None and workers and token:
        build = context.store.build_by_token(token_hash(token))
        found = Caller(user=None, role="read", build=build) if build else None
    if found is None:
        raise BadToken("The token is wrong, has expired or was revoked. Make a new one and sign in again.")
    return found


def _basic_password(value: str) -> str:
    """git and git-lfs send the token as password, or as the user's name if they were given one word only."""
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return password or user


def _by_cookie(context: Context, request: Request) -> Caller | None:
    session = session_of(request)
    found = by_token(context, session) if session else None
    if found is None or found.token is None or not found.token.is_session:
        return None
    return Caller(user=found.user, role=found.role, token=found.token, by_cookie=True)


def by_token(context: Context, token: str) -> Caller | None:
    """The caller whose access token this is. Blocks."""
    try:
        found = context.store.find_token(token_hash(token), context.clock())
    except UnicodeEncodeError:
        return None
    return Caller(user=found[1], role=found[0].role, token=found[0]) if found else None


# --- tokens ---------------------------------------------------------------------------------------------------
def issue_token(
    context: Context, user: User, *, label: str, role: str, expires_at: float | None = None
) -> tuple[Token, str]:
    """A new token; its text is shown once and not kept."""
    text = "hf_" + secrets.token_urlsafe(30).replace("-", "A").replace("_", "B")
    row = context.store.add_token(
        user.id, token_hash=token_hash(text), label=label, role=role, now=context.clock(), expires_at=expires_at
    )
    return row, text


# --- sessions and forged forms --------------------------------------------------------------------------------
def session_of(request: Request) -> str:
    """The session cookie. A neighbour may have planted a second one; then neither is believed."""
    values: set[str] = set()
    for header in request.headers.getlist("cookie"):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            if name == SESSION_COOKIE and value:
                values.add(value.strip('"'))
    value = values.pop() if len(values) == 1 else ""
    return value if len(value) <= _TOKEN_MAX else ""


def csrf_token(request: Request) -> str:
    """The token that forms (field `csrf_token`) and scripts (header `X-CSRF-Token`) of our pages carry."""
    session = session_of(request)
    return _csrf(session) if session else ""


def _csrf(session: str) -> str:
    return hmac.new(session.encode("utf-8", "replace"), b"dormouse csrf", hashlib.sha256).hexdigest()


async def refuse_forged(request: Request) -> None:
    """Dependency of every route: a changing request that carries the cookie must come from a page of ours."""
    if (
        request.method in SAFE_METHODS
        or "authorization" in request.headers
        or GIT_BODY.fullmatch(request.scope["path"])
    ):
        return
    cookie_sent = any(SESSION_COOKIE + "=" in header for header in request.headers.getlist("cookie"))
    if request.scope["path"] == "/login":
        check_origin(request, required=False)
    elif cookie_sent:
        check_origin(request, required=True)
        given = request.headers.get("x-csrf-token") or await _form_token(request)
        expected = csrf_token(request)
        if not expected or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
            raise NotAllowed("The page was out of date. Go back, reload it and try again.")


def check_origin(request: Request, *, required: bool) -> None:
    """Raise NotAllowed unless what the browser says of the request's origin is our own.

    With `required` a request that says nothing is refused too.
    """
    ours = {request.headers.get(name, "").lower() for name in ("host", "x-forwarded-host")} - {""}
    origin = request.headers.get("origin")
    referer = request.headers.get("referer")
    site = request.headers.get("sec-fetch-site")
    told = False
    if site is not None:
        told = True
        if site != "same-origin":
            raise NotAllowed("This request comes from another site, so it was not carried out.")
    if origin is not None or (site is None and referer is not None):
        told = True
        if _netloc(origin if origin is not None else referer or "") not in ours:
            raise NotAllowed("This request comes from another site, so it was not carried out.")
    if required and not told:
        raise NotAllowed("This request does not say where it comes from, so it was not carried out.")


def _netloc(address: str) -> str:
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""


async def _form_token(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return ""
    # Read as a whole first (its size is limited), so that the endpoint can read it again in its own way.
    await request.body()
    value = (await request.form(max_files=1, max_fields=200)).get("csrf_token", "")
    return value if isinstance(value, str) else ""
