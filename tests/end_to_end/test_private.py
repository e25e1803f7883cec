"""A private Space from end to end: whoever may not read it cannot tell it from one that is missing."""

import re
from typing import Any

import httpx
import pytest
import websockets.exceptions

from tests.end_to_end.conftest import EXAMPLES, asgi
from tests.support.product import ADMIN_TOKEN, Product, wait_for

pytestmark = pytest.mark.e2e
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
OWNER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture(scope="module")
def stranger(dormouse: Product) -> str:
    """The token of somebody who owns nothing."""
    answer = dormouse.api("POST", "/api/dormouse/users", json={"name": "eve"})
    assert answer.status_code < 300, answer.text
    token: str = answer.json()["token"]
    return token


@pytest.fixture(scope="module")
def secret(dormouse: Product) -> Product:
    dormouse.create("secret", "gradio", private=True)
    dormouse.push("secret", asgi("1"))
    dormouse.wait_stage("secret", "RUNNING")
    return dormouse


def signed(product: Product, name: str = "secret") -> str:
    answer = product.api("GET", f"/api/spaces/admin/{name}/jwt")
    token: str = answer.json()["token"]
    return token


def shape(product: Product, name: str, path: str, headers: dict[str, str]) -> Any:
    """An answer without what differs between any two: the host's own name, times, ids and nonces."""
    answer = product.app(name, path, headers=headers)
    varying = ("date", "x-request-id", "content-length", "x-envoy-upstream-service-time")
    fields = sorted((key, value) for key, value in answer.headers.multi_items() if key not in varying)
    text = f"{answer.status_code} {fields} {answer.text}".replace(product.host(name), "HOST")
    return re.sub(r"nonce[-=]\"?[\w-]+|content=\"\d{9,}\"", "-", text)


def refuses_websocket(product: Product, name: str) -> int:
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught, product.websocket(name):
        pass
    return int(caught.value.response.status_code)


@pytest.mark.parametrize("state", ["awake", "asleep", "paused"])
def test_a_stranger_cannot_tell_it_from_a_missing_one(secret: Product, stranger: str, state: str) -> None:
    if state == "asleep":
        secret.sleep("secret")
    elif state == "paused":
        secret.api("POST", "/api/spaces/admin/secret/pause")
    else:
        assert secret.app("secret", headers=OWNER).status_code == 200
    stage = secret.runtime("secret")["stage"]
    wrong = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.AAAA"
    shown = [
        {},
        BROWSER,
        {"Authorization": f"Bearer {stranger}"},
        {"X-HF-Authorization": f"Bearer {stranger}"},
        {"Cookie": f"dormouse_app={stranger}"},
        {"Cookie": f"dormouse_app={wrong}", **BROWSER},
        {"X-Dormouse-Held": "admitted"},
    ]
    for headers in shown:
        for path in ("/", f"/?__sign={wrong}", "/.dormouse/status"):
            expected = shape(secret, "nobody-made-it", path, headers)
            assert expected.startswith(("404 ", "401 "))
            assert shape(secret, "secret", path, headers) == expected
    assert refuses_websocket(secret, "secret") == refuses_websocket(secret, "nobody-made-it") == 404
    assert secret.runtime("secret")["stage"] == stage, "a stranger wakes nothing"
    if state == "paused":
        secret.api("POST", "/api/spaces/admin/secret/restart")
        secret.wait_stage("secret", "RUNNING")


@pytest.mark.parametrize("form", ["authorization", "hub", "signed", "cookie"])
def test_its_owner_wakes_it_and_is_served(secret: Product, form: str) -> None:
    secret.sleep("secret")
    token = signed(secret)
    path, headers = {
        "authorization": ("/", OWNER),
        "hub": ("/", {"X-HF-Authorization": f"Bearer {ADMIN_TOKEN}"}),
        "signed": (f"/?__sign={token}", {}),
        "cookie": ("/", {"Cookie": f"dormouse_app={token}"}),
    }[form]
    answer = secret.app("secret", path, headers=headers)
    assert (answer.status_code, answer.text) == (200, "version 1 got 0 bytes")
    assert answer.headers.get("set-cookie", "").startswith(f"dormouse_app={token};") == (form == "signed")
    status = secret.app("secret", "/.dormouse/status" + path[1:], headers=headers)
    assert (status.status_code, status.json()["serving"]) == (200, True)


def test_a_browser_follows_the_signed_address_of_the_page(secret: Product) -> None:
    secret.sleep("secret")
    page = secret.api("GET", "/spaces/admin/secret").text
    addresses = re.findall(r'(?:src|href)="(http://admin-secret[^"]+)"', page)
    assert len(addresses) >= 2
    assert len({address.split("?")[0] for address in addresses}) == 1
    query = addresses[0].partition("?")[2]
    with httpx.Client(headers={"Host": f"{secret.host('secret')}:{secret.port}", **BROWSER}) as client:
        first = client.get(f"http://127.0.0.1:{secret.port}/?{query}")
        assert first.status_code == 503
        assert "no Space" not in first.text
        cookie = {"Cookie": first.headers["set-cookie"].partition(";")[0]}
        base = f"http://127.0.0.1:{secret.port}"
        wait_for(lambda: client.get(f"{base}/.dormouse/status", headers=cookie).json()["serving"], 60, "the app")
        assert client.get(f"{base}/", headers=cookie).text.startswith("version 1")


def test_a_signed_token_opens_one_space_and_nothing_else(secret: Product) -> None:
    secret.create("other-secret", "static", private=True)
    secret.push("other-secret", EXAMPLES / "static")
    secret.wait_stage("other-secret", "RUNNING")
    token = signed(secret, "other-secret")
    assert secret.app("other-secret", f"/?__sign={token}").status_code == 200
    assert secret.app("other-secret", "/style.css", headers=OWNER).status_code == 200
    assert secret.app("other-secret", "/style.css").status_code == 404
    assert secret.app("other-secret").headers["x-error-code"] == "RepoNotFound"
    assert secret.app("secret", f"/?__sign={token}").status_code == 404
    assert secret.app("secret", headers={"Authorization": f"Bearer {token}"}).status_code == 404
    assert secret.api("GET", "/api/whoami-v2", token=token).status_code == 401
    assert secret.api("GET", "/api/spaces/admin/secret/jwt", token=None).status_code in (401, 404)


def test_only_who_may_read_it_gets_a_token(secret: Product, stranger: str) -> None:
    assert secret.api("GET", "/api/spaces/admin/secret/jwt", token=stranger).status_code == 404


def test_a_websocket_of_its_owner_wakes_it(secret: Product) -> None:
    secret.sleep("secret")
    with secret.websocket("secret", f"/ws?__sign={signed(secret)}") as socket:
        socket.send("hello")
        assert socket.recv(timeout=10) == "echo hello"


def test_it_falls_asleep_by_itself(secret: Product) -> None:
    secret.api("POST", "/api/spaces/admin/secret/sleeptime", json={"seconds": 3})
    assert secret.app("secret", headers=OWNER).status_code == 200
    secret.wait_stage("secret", "SLEEPING", limit_s=40)
    secret.api("POST", "/api/spaces/admin/secret/sleeptime", json={"seconds": -1})
