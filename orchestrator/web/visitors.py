"""Who may visit the app of a private Space: the same people who may read the Space (`auth.Caller.sees`).

A visitor shows an access token, or a signed token that our pages and `GET .../jwt` hand out. A signed token (a JWT,
HS256) is good for one host and an hour, so that it may stand in an address and in a cookie that the app itself can
read; it opens nothing else. It names its user, whose right to read the Space is looked up anew each time.
"""

import base64
import hmac
import json
from collections.abc import Sequence

from orchestrator.domain.credentials import Credentials
from orchestrator.domain.names import UserId
from orchestrator.domain.space import Space, User
from orchestrator.web import auth
from orchestrator.web.context import Context

SIGNED_FOR_S = 3600
_HEAD = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")


def signed_token(context: Context, space: Space, user: User) -> str:
    """A token with which `user` visits the app of `space` for an hour."""
    claims = {"aud": space.host, "sub": user.id, "exp": int(context.clock()) + SIGNED_FOR_S}
    body = f"{_HEAD}.{_encode(json.dumps(claims).encode())}"
    return f"{body}.{_encode(context.vault.sign(body.encode()))}"


def opened_by(context: Context, space: Space, shown: Sequence[str]) -> int | None:
    """Which of the credentials opens the private Space, if any does. Blocks."""
    for position, credential in enumerate(shown):
        user = _signed_user(context, space, credential) if "." in credential else _token_user(context, credential)
        if user is not None and auth.Caller(user=user, role="read").sees(space):
            return position
    return None


def may_visit(context: Context, space: Space, shown: Credentials) -> bool:
    """Whether a visitor may know of the Space at all. Blocks."""
    return space.visibility == "public" or opened_by(context, space, shown.shown) is not None


def _token_user(context: Context, token: str) -> User | None:
    """What a session's cookie holds is no token anywhere but there."""
    caller = auth.by_token(context, token)
    return None if caller is None or caller.token is None or caller.token.is_session else caller.user


def _signed_user(context: Context, space: Space, token: str) -> User | None:
    body, _, signature = token.rpartition(".")
    head, _, claims = body.partition(".")
    genuine = hmac.compare_digest(signature.encode(), _encode(context.vault.sign(body.encode())).encode())
    if head != _HEAD or not genuine:
        return None
    said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    if said["aud"] != space.host or said["exp"] <= context.clock():
        return None
    return context.store.user(UserId(said["sub"]))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
