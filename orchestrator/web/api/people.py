"""Ours: users and tokens. Admins manage users; everybody manages his own tokens."""

from typing import Any

from fastapi import APIRouter, Request

from orchestrator.domain.names import check_owner
from orchestrator.domain.space import User
from orchestrator.errors import Conflict, Invalid, Missing, NotAllowed
from orchestrator.web import auth
from orchestrator.web.api import views
from orchestrator.web.api.common import Body, Tools, flag, text, whole
from orchestrator.web.context import Context
from orchestrator.web.responses import Json

users = APIRouter(prefix="/users")
own = APIRouter(prefix="/api/settings/tokens")
_TOKENS_MAX = 200


@users.get("")
def list_users(request: Request, tools: Tools) -> Json:
    auth.admin(request, changes=False)
    return Json([views.person(user) for user in tools.store.list_users()])


@users.post("")
def create_user(request: Request, tools: Tools, body: Body) -> Json:
    """Answers with the new user's first token; its text is shown this once."""
    auth.admin(request)
    user = tools.store.create_user(
        check_owner(text(body, "name")),
        full_name=text(body, "fullname", limit=200),
        is_admin=flag(body.get("isAdmin", body.get("is_admin"))),
        now=tools.clock(),
    )
    _, secret = auth.issue_token(tools, user, label="first", role="write")
    return Json({**views.person(user), "token": secret})


@users.delete("/{user}")
def delete_user(request: Request, tools: Tools, user: str) -> Json:
    caller = auth.admin(request)
    if caller.user is not None and caller.user.name.lower() == user.lower():
        raise Conflict("You cannot remove yourself; let another admin do it.")
    tools.store.delete_user(_user(tools, user).name)
    return Json({})


@users.get("/{user}/tokens")
def list_tokens(request: Request, tools: Tools, user: str) -> Json:
    found = _self_or_admin(request, tools, user)
    return Json([views.token(row) for row in tools.store.list_tokens(found.id) if not row.is_session])


@users.post("/{user}/tokens")
def create_token(request: Request, tools: Tools, user: str, body: Body) -> Json:
    return _issue(tools, _self_or_admin(request, tools, user), body)


@users.delete("/{user}/tokens/{token_id}")
def revoke_token(request: Request, tools: Tools, user: str, token_id: str) -> Json:
    return _revoke(tools, _self_or_admin(request, tools, user), token_id)


@own.post("")
def create_own_token(request: Request, tools: Tools, body: Body) -> Json:
    caller = auth.signed_in_writer(request)
    assert caller.user is not None
    return _issue(tools, caller.user, body)


@own.delete("")
def revoke_own_token(request: Request, tools: Tools, body: Body) -> Json:
    caller = auth.signed_in_writer(request)
    assert caller.user is not None
    return _revoke(tools, caller.user, text(body, "id"))


def _user(tools: Context, name: str) -> User:
    found = tools.store.find_user(name[:96])
    if found is None:
        raise Missing(f"There is no user {name[:96]!r}.", "other")
    return found


def _self_or_admin(request: Request, tools: Context, name: str) -> User:
    caller = auth.signed_in_writer(request)
    assert caller.user is not None
    if caller.user.name.lower() == name.lower():
        return caller.user
    if not caller.user.is_admin:
        raise NotAllowed("Only an admin may manage the tokens of others.")
    return _user(tools, name)


def _issue(tools: Context, user: User, body: dict[str, Any]) -> Json:
    label, role = text(body, "label", limit=100).strip() or "token", text(body, "role", "write")
    if role not in ("read", "write"):
        raise Invalid("`role` must be read or write.")
    if label == auth.SESSION_LABEL:
        raise Invalid(f"`{label}` is the label of sessions in browsers; give the token another one.")
    days = whole(body, "expiresInDays")
    if days is not None and not 1 <= days <= 3650:
        raise Invalid("`expiresInDays` must be 1 to 3650.")
    if sum(not row.is_session for row in tools.store.list_tokens(user.id)) >= _TOKENS_MAX:
        raise Invalid(f"{user.name} has {_TOKENS_MAX} tokens already; revoke one first.")
    expires_at = tools.clock() + days * 86400 if days else None
    row, secret = auth.issue_token(tools, user, label=label, role=role, expires_at=expires_at)
    return Json({**views.token(row), "token": secret})


def _revoke(tools: Context, user: User, token_id: str) -> Json:
    if all(row.id != token_id for row in tools.store.list_tokens(user.id)):
        raise Missing(f"{user.name} has no token {token_id[:60]!r}.", "other")
    tools.store.revoke_token(user.id, token_id)
    return Json({})
