"""Sessions, forged forms, and requests that no client of ours would send: nothing may break the server."""

import asyncio
import base64
import json
import random
import re
import string
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.lifecycle import Event
from orchestrator.flows.dispatch_build import token_hash
from orchestrator.runner.runlog import append
from orchestrator.web.app import create_app
from orchestrator.web.auth import SESSION_COOKIE
from orchestrator.web.sessions import SESSIONS_MAX
from tests.support.web_world import WebWorld, make_context

HOST = "localhost:7878"
OURS = {"origin": f"http://{HOST}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WebWorld:
    context = make_context(tmp_path_factory.mktemp("data"))
    served = WebWorld(context, f"http://{HOST}")
    for name in ("ann", "bob"):
        served.user(name)
    served.user("root", admin=True)
    served.create("ann/app")
    served.create("ann/hidden", visibility="private")
    return served


class Browser:
    """An in-process client with its own cookies."""

    def __init__(self, world: WebWorld) -> None:
        transport = httpx.ASGITransport(app=create_app(world.context), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        return asyncio.run(self.client.request(method, path, **options))  # type: ignore[arg-type]

    def sign_in(self, world: WebWorld, name: str) -> httpx.Response:
        return self.ask("POST", "/login", data={"token": world.tokens[name], "next": "/spaces/ann/app"}, headers=OURS)

    def csrf(self) -> str:
        page = self.ask("GET", "/login?next=/x") if SESSION_COOKIE not in self.client.cookies else self.ask("GET", "/")
        return page.text.partition('name="csrf-token" content="')[2].partition('"')[0]


@pytest.fixture
def browser(world: WebWorld) -> Browser:
    return Browser(world)


@pytest.fixture(scope="module")
def stranger(world: WebWorld) -> Browser:
    return Browser(world)


# --- sessions -------------------------------------------------------------------------------------------------
def test_signing_in_gives_a_host_only_cookie_whose_text_is_not_stored(world: WebWorld, browser: Browser) -> None:
    answer = browser.sign_in(world, "ann")
    assert (answer.status_code, answer.headers["location"]) == (303, "/spaces/ann/app")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Max-Age=2592000"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert browser.ask("GET", "/api/whoami-v2").json()["name"] == "ann"
    session = browser.client.cookies[SESSION_COOKIE]
    assert session.encode() not in (world.context.settings.data / "dormouse.db").read_bytes()


def test_signing_out_ends_the_session_itself(world: WebWorld, browser: Browser) -> None:
    browser.sign_in(world, "ann")
    session = browser.client.cookies[SESSION_COOKIE]
    answer = browser.ask("POST", "/logout", data={"csrf_token": browser.csrf()}, headers=OURS)
    assert answer.status_code in (200, 303)
    browser.client.cookies.set(SESSION_COOKIE, session)
    assert browser.ask("GET", "/api/whoami-v2").status_code == 401


def test_wrong_tokens_are_explained_and_limited_per_address(world: WebWorld, browser: Browser) -> None:
    def attempt(address: str) -> httpx.Response:
        headers = {**OURS, "accept": "text/html", "x-forwarded-for": address}
        return browser.ask("POST", "/login", data={"token": "hf_wrong"}, headers=headers)

    first = attempt("10.0.0.1")
    assert first.status_code == 401
    assert "This token is wrong" in first.text
    tries = [attempt("10.0.0.1").status_code for _ in range(10)]
    assert tries[-1] == 429
    assert attempt("10.0.0.2").status_code == 401


def test_nobody_locks_others_of_the_same_address_out(world: WebWorld, browser: Browser) -> None:
    def attempt(token: str, host: str = HOST) -> httpx.Response:
        headers = {"host": host, "origin": f"http://{host}", "x-forwarded-for": "10.0.0.9"}
        return browser.ask("POST", "/login", data={"token": token}, headers=headers)

    for _ in range(11):
        last = attempt("hf_wrong", "dormouse.internal:7878")
    assert last.status_code == 429
    # What Spaces do is counted apart, and a token that is right is never refused.
    assert attempt("hf_wrong").status_code == 401
    assert attempt(world.tokens["ann"], "dormouse.internal:7878").status_code == 303


def test_a_session_ends_with_its_token(world: WebWorld, browser: Browser) -> None:
    world.tokens["brief"] = world.token("bob", role="write")
    browser.sign_in(world, "brief")
    mine = {"authorization": f"Bearer {world.tokens['bob']}"}
    session = browser.client.cookies[SESSION_COOKIE]
    assert browser.ask("GET", "/api/whoami-v2").json()["name"] == "bob"
    user = world.context.store.find_user("bob")
    assert user is not None
    row = world.context.store.find_token(token_hash(world.tokens["brief"]), time.time())
    assert row is not None
    revoked = browser.ask("DELETE", "/api/settings/tokens", json={"id": row[0].id}, headers=mine)
    assert revoked.status_code == 200
    browser.client.cookies.set(SESSION_COOKIE, session)
    assert browser.ask("GET", "/api/whoami-v2").status_code == 401
    assert not any(token.is_session for token in world.context.store.list_tokens(user.id))


def test_what_the_cookie_holds_is_no_token(world: WebWorld, browser: Browser) -> None:
    browser.sign_in(world, "ann")
    session = browser.client.cookies[SESSION_COOKIE]
    basic = base64.b64encode(f"ann:{session}".encode()).decode()
    browser.client.cookies.clear()
    for header in (f"Bearer {session}", f"Basic {basic}"):
        for path in ("/api/whoami-v2", "/spaces/ann/app/info/refs?service=git-upload-pack"):
            assert browser.ask("GET", path, headers={"authorization": header}).status_code == 401
    # And nobody signs in with it anew.
    assert browser.ask("POST", "/login", data={"token": session}, headers=OURS).status_code == 401


def test_a_person_has_so_many_sessions_and_signs_them_out_one_by_one(world: WebWorld, browser: Browser) -> None:
    store, user = world.context.store, world.context.store.find_user("ann")
    assert user is not None
    for _ in range(SESSIONS_MAX + 2):
        browser.client.cookies.clear()
        browser.sign_in(world, "ann")
    sessions = [token for token in store.list_tokens(user.id) if token.is_session]
    assert len(sessions) == SESSIONS_MAX
    page = browser.ask("GET", "/settings/tokens", headers={"accept": "text/html"}).text
    assert page.count("(this browser)") == 1
    assert all(token.id in page for token in sessions)
    headers = {**OURS, "x-csrf-token": browser.csrf()}
    answer = browser.ask("DELETE", "/api/settings/tokens", json={"id": sessions[-1].id}, headers=headers)
    assert answer.status_code == 200
    assert browser.ask("GET", "/api/whoami-v2").status_code == 401


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\\b", "x", ""])
def test_signing_in_never_leads_elsewhere(world: WebWorld, browser: Browser, target: str) -> None:
    answer = browser.ask("POST", "/login", data={"token": world.tokens["ann"], "next": target}, headers=OURS)
    assert answer.headers["location"] == "/"


def test_a_planted_second_cookie_is_not_believed(world: WebWorld, browser: Browser) -> None:
    browser.sign_in(world, "ann")
    session = browser.client.cookies[SESSION_COOKIE]
    browser.client.cookies.clear()
    headers = {"cookie": f"{SESSION_COOKIE}={session}; {SESSION_COOKIE}=planted"}
    assert browser.ask("GET", "/api/whoami-v2", headers=headers).status_code == 401


# --- forged requests ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": f"http://{HOST}"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"referer": f"http://{HOST}/spaces/ann/app"}, 200),
        ({}, 403),
        ({"origin": "http://ann-app.localhost:7878"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": f"http://{HOST}", "sec-fetch-site": "same-site"}, 403),
        ({"referer": "http://evil.example/"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_the_cookie_counts_only_from_our_own_origin(
    world: WebWorld, browser: Browser, headers: dict[str, str], status: int
) -> None:
    browser.sign_in(world, "ann")
    headers = {**headers, "x-csrf-token": browser.csrf()}
    answer = browser.ask("POST", "/api/spaces/ann/app/sleeptime", json={"seconds": 60}, headers=headers)
    assert answer.status_code == status, answer.text


def test_the_cookie_needs_the_token_of_our_pages(world: WebWorld, browser: Browser) -> None:
    browser.sign_in(world, "ann")
    for token in (None, b"0" * 64, "ä".encode()):
        sent = [(b"origin", OURS["origin"].encode()), *([(b"x-csrf-token", token)] if token else [])]
        answer = browser.ask("POST", "/api/spaces/ann/app/pause", headers=sent)
        assert (answer.status_code, "reload" in answer.json()["error"]) == (403, True)
    form = {"csrf_token": browser.csrf()}
    assert browser.ask("POST", "/api/spaces/ann/app/paths-info/main", data=form, headers=OURS).status_code == 200


def test_git_takes_no_cookie_and_only_git_takes_a_large_body(world: WebWorld, browser: Browser) -> None:
    browser.sign_in(world, "ann")
    assert browser.ask("GET", "/spaces/ann/app/info/refs?service=git-receive-pack").status_code == 401
    large = {"content": b"x" * (2 << 20), "headers": OURS | {"content-type": "application/x-www-form-urlencoded"}}
    assert browser.ask("POST", "/spaces/ann/app/git-receive-pack", **large).status_code == 401
    for path in ("/api/repos/git-receive-pack", "/login/git-upload-pack", "/spaces/ann/app/x/git-upload-pack"):
        assert browser.ask("POST", path, **large).status_code == 413


def test_a_token_in_the_header_needs_neither(world: WebWorld, browser: Browser) -> None:
    headers = {"authorization": f"Bearer {world.tokens['ann']}", "origin": "http://elsewhere.example"}
    answer = browser.ask("POST", "/api/spaces/ann/app/sleeptime", json={"seconds": 60}, headers=headers)
    assert answer.status_code == 200


def test_nobody_is_signed_in_from_elsewhere(world: WebWorld, browser: Browser) -> None:
    headers = {"origin": "http://ann-app.localhost:7878"}
    answer = browser.ask("POST", "/login", data={"token": world.tokens["bob"]}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_every_answer_is_dressed(browser: Browser) -> None:
    for path in ("/", "/login", "/api/spaces", "/api/nothing", "/nothing", "/spaces/ann/app"):
        answer = browser.ask("GET", path, headers={"accept": "text/html", "x-request-id": "mine-1"})
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"] == "mine-1"
        assert "unsafe" not in answer.headers["content-security-policy"]


def test_strangers_see_what_an_app_writes_only_while_they_wait_for_it(world: WebWorld, browser: Browser) -> None:
    store, space = world.context.store, world.create("ann/talks")

    def shown() -> tuple[str, list[str]]:
        told = browser.ask("GET", "/.dormouse/status", headers={"host": space.host}).json()
        return told["stage"], told["log"]

    def happen(event: Event, **fields: object) -> None:
        store.happen(space.id, event, now=time.time() - 60, **fields)

    happen(Event.COMMIT_ACCEPTED, sha=space.sha)
    happen(Event.BUILD_SUCCEEDED, revision_id="r")
    append(world.context.settings.data / "logs" / "runs" / space.id / "p.ndjson", "the till is open", time.time())
    assert shown() == ("APP_STARTING", ["the till is open"])
    happen(Event.PAUSE)
    assert shown() == ("PAUSED", [])
    happen(Event.RESTART)
    assert shown() == ("APP_STARTING", ["the till is open"])
    happen(Event.REPLICA_READY)
    assert shown() == ("RUNNING", [])
    happen(Event.IDLE)
    assert shown() == ("SLEEPING", [])


# --- junk -----------------------------------------------------------------------------------------------------
def test_large_bodies_are_refused_before_they_are_read(world: WebWorld, browser: Browser) -> None:
    headers = {"authorization": f"Bearer {world.tokens['ann']}"}
    body = b'{"key": "' + b"x" * (1 << 20) + b'"}'
    told = browser.ask("POST", "/api/spaces/ann/app/secrets", content=body, headers=headers)
    assert (told.status_code, "too large" in told.json()["error"]) == (413, True)

    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(40):
            yield b" " * (1 << 16)

    untold = browser.ask("POST", "/api/spaces/ann/app/secrets", content=pieces(), headers=headers)
    assert untold.status_code == 413


BODIES = [
    b"", b"null", b"[]", b"3", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 50_000, b'{"a":' * 50_000, b"{}" * 10,
    b'{"name": 3, "type": "space"}', b'{"name": "\\ud800", "type": "space"}', b'{"name": "a\\u0000", "type": "space"}',
    b'{"name": "x/y/z", "type": "space"}', b'{"key": ["x"]}', b'{"key": "A", "value": {}}', b'{"seconds": 1e400}',
    b'{"seconds": ' + b"9" * 5000 + b"}", b'{"seconds": true}', b'{"seconds": 99999999999999999999}',
    b'{"content": "---\\n&a [*a]\\n---"}', b'{"type":"space","name":"ok","sdk":"gradio","secrets":[1]}',
    b'{"type":"space","name":"ok","sdk":["gradio"],"variables":{"a":1}}', b'{"flavor": "\\u202e"}', b'{"paths": [1]}',
]  # fmt: skip
WRITES = [
    ("POST", "/api/repos/create"), ("DELETE", "/api/repos/delete"), ("POST", "/api/validate-yaml"),
    ("POST", "/api/spaces/ann/app/sleeptime"), ("POST", "/api/spaces/ann/app/hardware"),
    ("POST", "/api/spaces/ann/app/secrets"), ("DELETE", "/api/spaces/ann/app/secrets"),
    ("POST", "/api/spaces/ann/app/variables"), ("DELETE", "/api/spaces/ann/app/variables"),
    ("POST", "/api/spaces/ann/app/paths-info/main"), ("POST", "/api/users"), ("POST", "/api/settings/tokens"),
    ("DELETE", "/api/settings/tokens"), ("POST", "/login"), ("POST", "/logout"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_junk_bodies_are_never_an_error_of_ours(world: WebWorld, browser: Browser, method: str, path: str) -> None:
    kinds = (
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "",
    )
    for token in (world.tokens["root"], ""):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        for number, body in enumerate(BODIES):
            kind = {"content-type": kinds[number % len(kinds)]} if path == "/login" else {"content-type": kinds[0]}
            answer = browser.ask(method, path, content=body, headers={**headers, **kind})
            assert answer.status_code < 500, (body[:60], answer.text)
            if path.startswith("/api/") and answer.status_code >= 400:
                assert isinstance(answer.json(), dict), body[:60]


NAMES = {"owner": "ann", "name": "fuzzed", "user": "nobody", "token_id": "x", "rev": "main", "path": "x", "key": "x"}
VALUES = [
    None, True, 1.5, -1, 60, 1 << 62, 1 << 70, "", "x", "ann/x", "space", "gradio", "x" * 2000, "\u202e\U0001f42d",
    "../..", [], [[]], {}, {"a": {"b": []}}, ["x", 1, None], [{"key": 1}], [{"key": "A", "value": "B"}], "---\n[" * 400,
]  # fmt: skip
FIELDS = [
    "type", "name", "organization", "private", "sdk", "key", "value", "description", "secrets", "variables", "flavor",
    "sleepTimeSeconds", "seconds", "content", "paths", "id", "label", "role", "expiresInDays", "fullname", "isAdmin",
]  # fmt: skip
WHOLE = ['{"a":' * 900 + "1" + "}" * 900, json.dumps(VALUES), "1" * 5000, '{"name":"a\\u0000"}', '{"key":["\\ud800"]}']


_QUIET = ("GET", "HEAD")
_TWICE = ("/api/{path}", "/api/users", "/api/users/{user}/tokens", "/api/users/{user}/tokens/{token_id}")


def _changing(app: FastAPI) -> list[tuple[str, str]]:
    """Every address of the API that takes a body, once."""
    paths = get_openapi(title="x", version="x", routes=app.routes)["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    return sorted((m, path) for m, path in found if path.startswith("/api/") and m not in _QUIET and path not in _TWICE)


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
def test_fuzzed_bodies_get_an_answer_in_words_from_every_endpoint(world: WebWorld, browser: Browser) -> None:
    chance = random.Random(7)
    world.create("ann/fuzzed")
    asked = _changing(create_app(world.context))
    assert len(asked) > 15
    headers = {"authorization": f"Bearer {world.tokens['root']}", "content-type": "application/json"}
    for method, path in asked:
        address = re.sub(r"\{(\w+)\}", lambda found: NAMES.get(found[1], "x"), path)
        mixed = [{name: chance.choice(VALUES) for name in chance.sample(FIELDS, 5)} for _ in range(8)]
        single = [{name: value} for name in FIELDS for value in chance.sample(VALUES, 1)]
        for body in (*WHOLE, *map(json.dumps, mixed), *map(json.dumps, single)):
            answer = browser.ask(method, address, content=body.encode(), headers=headers)
            assert answer.status_code < 500, (method, path, body[:200], answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"], (method, path, body[:200])


ODD_SEGMENTS = [
    "..", ".", "", "%00", "%2F", "%2f..", "%", "%zz", "%ff%fe", "main", "HEAD", "refs%2Fheads%2Fmain", "app.py",
    "README.md", "ann", "app", "hidden", "api", "spaces", "tree", "resolve", "revision", "commits", "logs", "build",
    "main@%7B1%7D", "main~1", ":%2Fx", "--help", "-x", "%0a", "a" * 5000, "%F0%9F%90%AD", "%ED%A0%80",
]  # fmt: skip
SEGMENT = st.one_of(
    st.sampled_from(ODD_SEGMENTS),
    st.text(alphabet=string.ascii_letters + string.digits + "%._-~@^{}:*?[]\\ ", max_size=12),
)
PREFIX = st.sampled_from(
    ["/api/spaces/ann/app/", "/spaces/ann/app/resolve/", "/api/spaces/", "/spaces/", "/api/", "/", "/.dormouse/",
     "/api/spaces/ann/app/tree/", "/api/spaces/ann/app/commits/", "/spaces/ann/app/", "/spaces/ann/app.git/"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    prefix=PREFIX,
    segments=st.lists(SEGMENT, max_size=4),
    query=st.sampled_from(
        [
            "",
            "?limit=-1&p=x",
            "?cursor=%ff&limit=99999999999",
            "?cursor=WzEsMl0",
            "?service=git-upload-pack",
            "?expand=x&sort=%27",
            "?author=%F0%9F&search=%25",
            "?search=%00",
        ]
    ),
)
def test_no_address_is_an_error_of_ours(stranger: Browser, prefix: str, segments: list[str], query: str) -> None:
    raw = (prefix + "/".join(segments)).encode()
    scope_path = httpx.URL(f"http://{HOST}/").copy_with(raw_path=raw.replace(b" ", b"%20") + query.encode())
    answer = stranger.ask("GET", str(scope_path))
    assert answer.status_code < 500, (raw, answer.text[:300])
    # The client itself resolves `..`, so look at what it really asked for.
    if answer.request.url.path.startswith("/api/"):
        assert isinstance(json.loads(answer.content), dict | list)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Basic",
        "Basic !!",
        "Basic Og==",
        "Digest x",
        "Bearer ä",
        "Basic /w==",
        "Bearer " + "x" * 6000,
    ],
)
def test_odd_credentials_are_bad_credentials(browser: Browser, header: str) -> None:
    answer = browser.ask("GET", "/api/whoami-v2", headers=[(b"authorization", header.encode("latin-1"))])
    assert answer.status_code == 401
    assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"


@pytest.mark.parametrize("host", ["[", "a b", "ä", "x" * 300, "a/b", "localhost:port", ""])
def test_odd_hosts_are_refused(browser: Browser, host: str) -> None:
    answer = browser.ask("GET", "/api/spaces", headers=[(b"host", host.encode("latin-1"))])
    assert answer.status_code == 400


def test_links_and_odd_names_in_a_tree_are_listed_and_never_followed(
    world: WebWorld, browser: Browser, tmp_path: Path
) -> None:
    space = world.create("ann/links")
    repository = Path(world.context.repositories.path(space.id))
    from tests.support.git import git

    (tmp_path / "target").write_text("/etc/passwd")
    blob = git("hash-object", "-w", str(tmp_path / "target"), cwd=repository).strip()
    (tmp_path / "tree").write_bytes(
        b"".join(
            mode + b" " + name + b"\0" + bytes.fromhex(blob)
            for mode, name in (
                (b"100644", b"a\xff.txt"),
                (b"100644", b"b\nc"),
                (b"120000", b"link"),
                (b"160000", b"module"),
            )
        )
    )
    tree = git("hash-object", "-t", "tree", "-w", "--literally", str(tmp_path / "tree"), cwd=repository).strip()
    commit = git("commit-tree", tree, "-m", "odd", cwd=repository).strip()
    git("update-ref", "refs/heads/odd", commit, cwd=repository)
    entries = {item["path"]: item for item in browser.ask("GET", "/api/spaces/ann/links/tree/odd").json()}
    assert set(entries) == {"a\ufffd.txt", "b\nc", "link", "module"}
    assert (entries["link"]["type"], entries["module"]["type"]) == ("file", "directory")
    answer = browser.ask("GET", "/spaces/ann/links/resolve/odd/link")
    assert answer.content == b"/etc/passwd"
    assert browser.ask("GET", "/spaces/ann/links/resolve/odd/module").status_code == 404
    assert browser.ask("GET", "/spaces/ann/links/resolve/odd/link/passwd").status_code == 404
