"""Who may visit a private Space: what is shown, where it stands, and what a signed token is good for."""

import base64
import hashlib
import hmac
import json
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.domain.credentials import credentials, with_signature
from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import UserId
from orchestrator.domain.space import Space, Token, User
from orchestrator.flows.dispatch_build import token_hash
from orchestrator.web.visitors import SIGNED_FOR_S, opened_by, signed_token

OWNER = User(id=UserId("u1"), name="ann")
OTHER = User(id=UserId("u2"), name="bob")
ADMIN = User(id=UserId("u3"), name="root", is_admin=True)


class Store:
    def user(self, user_id: str) -> User | None:
        return {user.id: user for user in (OWNER, OTHER, ADMIN)}.get(UserId(user_id))

    def find_token(self, hashed: str, now: float) -> tuple[Token, User] | None:
        for user in (OWNER, OTHER, ADMIN):
            for text, parent in ((f"hf_{user.name}", None), (f"session_{user.name}", "t")):
                if token_hash(text) == hashed:
                    row = Token(id="t", user_id=user.id, label="x", role="read", created_at=0.0, parent_id=parent)
                    return row, user
        return None


class Vault:
    def sign(self, message: bytes) -> bytes:
        return hmac.digest(b"key", message, hashlib.sha256)


def context(now: float = 1000.0) -> Any:
    return SimpleNamespace(store=Store(), vault=Vault(), clock=lambda: now)


def space(name: str = "demo", host: str = "ann-demo.localhost") -> Space:
    fields: dict[str, Any] = {"stage": Stage.RUNNING, "stage_since": 0.0, "created_by": OWNER.id}
    return Space(id="s", owner="ann", name=name, host=host, visibility="private", **fields)


@pytest.mark.parametrize(
    ("shown", "position"),
    [
        (["hf_ann"], 0),
        (["hf_root"], 0),
        (["nothing", "hf_bob", "hf_ann"], 2),
        (["hf_bob"], None),
        (["session_ann"], None),
        ([], None),
        (["..", ".", "a.b.c", "\0"], None),
    ],
)
def test_those_who_may_read_it_may_visit_it(shown: list[str], position: int | None) -> None:
    assert opened_by(context(), space(), shown) == position


def test_a_signed_token_is_good_for_one_host_and_an_hour() -> None:
    token = signed_token(context(), space(), OWNER)
    assert opened_by(context(), space(), [token]) == 0
    assert opened_by(context(1000.0 + SIGNED_FOR_S - 1), space(), [token]) == 0
    assert opened_by(context(1000.0 + SIGNED_FOR_S), space(), [token]) is None
    assert opened_by(context(), space("other", "ann-other.localhost"), [token]) is None
    assert opened_by(context(), space(), [signed_token(context(), space(), OTHER)]) is None


def test_a_changed_token_opens_nothing() -> None:
    token = signed_token(context(), space(), OTHER)
    head, claims, signature = token.split(".")

    def encode(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    owners = encode({"aud": "ann-demo.localhost", "sub": "u1", "exp": 99999})
    none = encode({"alg": "none", "typ": "JWT"})
    good = signed_token(context(), space(), OWNER)
    wrong = [f"{head}.{owners}.{signature}", f"{none}.{owners}.", f"{head}.{owners}.", f"{head}.{claims}", good[:-1]]
    wrong += [good + "A", good.upper(), "." + good, good.replace(".", "..", 1)]
    for text in wrong:
        assert opened_by(context(), space(), [text]) is None, text


def test_where_credentials_stand() -> None:
    headers = {
        "cookie": "dormouse_app=one; x=2,dormouse_app=two",
        "authorization": "bearer  four",
        "x-hf-authorization": "Bearer three",
    }
    found = credentials(headers, "/x?a=1&__sign=zero#part")
    assert (found.shown, found.signed) == (("zero", "one", "two", "three", "four"), "zero")
    assert "zero" not in repr(found)


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ({}, "/"),
        ({"authorization": "Basic eDp5", "cookie": "dormouse_app=; other=1"}, "/?__sign="),
        ({"authorization": "Bearer " + "x" * 3000}, "/?__sign=" + "x" * 20_000),
        ({"authorization": "Bearer ü"}, "/?" + "&" * 2000 + "__sign=x"),
    ],
)
def test_what_is_no_credential(headers: dict[str, str], target: str) -> None:
    assert credentials(headers, target).shown in ((), ("x",))


def test_only_so_many_are_tried() -> None:
    assert len(credentials({"cookie": ";".join(f"dormouse_app={n}" for n in range(100))}, "/").shown) == 6


def test_an_address_is_signed() -> None:
    assert with_signature("http://a.localhost:1/", "t.t") == "http://a.localhost:1/?__sign=t.t"
    assert with_signature("http://a.localhost:1/x?y=1&z#p", "t=") == "http://a.localhost:1/x?y=1&z&__sign=t%3D#p"
