"""The real `huggingface_hub` client against the served application."""

import concurrent.futures
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import CommitSha
from orchestrator.domain.space import BuildStatus, Revision
from orchestrator.web import lanes
from orchestrator.web.api.logs import FOLLOWED_MAX
from tests.support.git import push_files
from tests.support.web_world import WebWorld, web_world

FILES = {
    "README.md": "---\ntitle: Full\nsdk: gradio\ntags: [demo]\n---\n",
    "app.py": "import gradio\n",
    "assets/page.html": "<script>alert(1)</script>",
    "assets/ä 100%.txt": "odd name",
}


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world() as served:
        served.create("ann/full")
        push_files(served.remote("ann/full", "ann"), FILES, message="an app")
        served.create("ann/private", visibility="private")
        yield served


@pytest.fixture(scope="module")
def ann(world: WebWorld) -> HfApi:
    return HfApi(endpoint=world.url, token=world.tokens["ann"])


@pytest.fixture(scope="module")
def bob(world: WebWorld) -> HfApi:
    return HfApi(endpoint=world.url, token=world.tokens["bob"])


@pytest.fixture(scope="module")
def stranger(world: WebWorld) -> HfApi:
    return HfApi(endpoint=world.url, token=False)


# --- identity -------------------------------------------------------------------------------------------------
def test_whoami_has_what_clients_read_unguarded(ann: HfApi) -> None:
    me = ann.whoami()
    assert (me["name"], me["type"], me["orgs"]) == ("ann", "user", [])
    assert me["auth"]["accessToken"]["role"] == "write"
    assert ann.get_user_overview("ann").num_spaces >= 1


def test_a_bad_token_is_no_missing_repository(world: WebWorld) -> None:
    with pytest.raises(HfHubHTTPError) as told:
        HfApi(endpoint=world.url, token="hf_bad").space_info("ann/full")
    assert not isinstance(told.value, RepositoryNotFoundError)
    assert told.value.response.status_code == 401
    assert told.value.response.headers["x-error-message"] == "Invalid credentials in Authorization header"


def test_readmes_are_checked(world: WebWorld) -> None:
    def check(content: str) -> httpx.Response:
        return httpx.post(f"{world.url}/api/validate-yaml", json={"content": content, "repoType": "space"})

    assert check("---\nsdk: gradio\n---\n").json() == {"errors": [], "warnings": []}
    bad = check("---\nsdk: [\n---\n")
    assert bad.status_code == 400
    assert "README.md:3" in bad.json()["errors"][0]["message"]


# --- repositories ---------------------------------------------------------------------------------------------
def test_create_answers_with_its_url_also_the_second_time(ann: HfApi, world: WebWorld) -> None:
    first = ann.create_repo("made", repo_type="space", space_sdk="gradio")
    assert first == f"{world.url}/spaces/ann/made"
    assert ann.create_repo("ann/made", repo_type="space", space_sdk="gradio", exist_ok=True) == first
    with pytest.raises(HfHubHTTPError) as told:
        ann.create_repo("ann/made", repo_type="space", space_sdk="gradio")
    assert told.value.response.status_code == 409
    assert ann.repo_info("ann/made", repo_type="space").sha


def test_create_keeps_variables_and_secrets(ann: HfApi, world: WebWorld) -> None:
    ann.create_repo(
        "ann/equipped",
        repo_type="space",
        space_sdk="static",
        private=True,
        space_secrets=[{"key": "KEY", "value": "s3cret"}],
        space_variables=[{"key": "MODE", "value": "fast"}],
        space_sleep_time=300,
    )
    assert ann.get_space_variables("ann/equipped")["MODE"].value == "fast"
    assert ann.get_space_runtime("ann/equipped").sleep_time == 300
    stored = world.context.store.secrets(world.space("ann/equipped").id)[0]
    assert "s3cret" not in stored.value
    assert world.context.vault.open(stored.value) == "s3cret"


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"repo_id": "bob/x", "repo_type": "space", "space_sdk": "gradio"}, 403, "under 'ann' only"),
        ({"repo_id": "ann/x", "repo_type": "model"}, 400, "Spaces only"),
        (
            {"repo_id": "ann/x", "repo_type": "space", "space_sdk": "gradio", "space_hardware": "t4-small"},
            400,
            "t4-small",
        ),
    ],
)
def test_what_cannot_be_created_is_refused_in_words(
    ann: HfApi, options: dict[str, str], status: int, words: str
) -> None:
    with pytest.raises(HfHubHTTPError, match=words) as told:
        ann.create_repo(**options)  # type: ignore[arg-type]
    assert told.value.response.status_code == status


def test_delete_removes_it_from_sight(ann: HfApi, bob: HfApi) -> None:
    ann.create_repo("ann/gone", repo_type="space", space_sdk="gradio")
    with pytest.raises(HfHubHTTPError, match="Only its owner or an admin"):
        bob.delete_repo("ann/gone", repo_type="space")
    ann.delete_repo("ann/gone", repo_type="space")
    assert not ann.repo_exists("ann/gone", repo_type="space")
    ann.delete_repo("ann/gone", repo_type="space", missing_ok=True)
    with pytest.raises(RepositoryNotFoundError):
        ann.delete_repo("ann/gone", repo_type="space")


def test_space_info(stranger: HfApi, world: WebWorld) -> None:
    info = stranger.space_info("ann/full", files_metadata=True)
    assert info.sha == world.space("ann/full").sha
    assert (info.author, info.sdk, info.private, info.subdomain) == ("ann", "gradio", False, "ann-full")
    assert info.host == f"http://ann-full.localhost:{world.context.settings.port}"
    assert info.tags == ["gradio", "demo"]
    assert info.card_data is not None
    assert info.card_data.title == "Full"
    assert None not in (info.created_at, info.last_modified)
    assert info.runtime is not None
    assert info.runtime.stage == "BUILDING"
    files = {item.rfilename: item for item in info.siblings or []}
    assert set(files) == {*FILES, ".gitattributes"}
    assert files["app.py"].size == len(FILES["app.py"])
    assert stranger.space_info("ann/full", revision=info.sha).sha == info.sha
    assert set(vars(stranger.space_info("ann/full", expand=["sha", "sdk"]))) >= {"id", "sha", "sdk"}


def test_a_private_space_looks_missing_to_others(ann: HfApi, bob: HfApi, stranger: HfApi) -> None:
    assert ann.space_info("ann/private").private is True
    for api in (bob, stranger):
        for call in (api.space_info, api.get_space_runtime, api.pause_space, api.get_space_variables):
            with pytest.raises(RepositoryNotFoundError):
                call("ann/private")
        assert not api.file_exists("ann/private", "README.md", repo_type="space")
        assert "ann/private" not in {space.id for space in api.list_spaces()}
    assert "ann/private" in {space.id for space in ann.list_spaces(author="ann")}


def test_lists_come_in_pages(ann: HfApi, world: WebWorld) -> None:
    for number in range(5):
        world.create(f"bob/listed-{number}", sdk="static")
    whole = [space.id for space in ann.list_spaces(author="bob")]
    assert len(whole) == 5
    address, found = f"{world.url}/api/spaces?author=bob&limit=2&full=true", []
    while address:
        response = httpx.get(address)
        found.append([item["id"] for item in response.json()])
        address = response.links.get("next", {}).get("url", "")
    assert [len(page) for page in found] == [2, 2, 1]
    assert [item for page in found for item in page] == whole
    assert len(list(ann.list_spaces(author="bob", limit=3))) == 3
    assert {space.id for space in ann.list_spaces(filter="demo")} == {"ann/full"}
    assert {space.id for space in ann.list_spaces(search="listed-3")} == {"bob/listed-3"}


# --- files and history ----------------------------------------------------------------------------------------
def test_trees(stranger: HfApi, world: WebWorld) -> None:
    tree = {item.path: item for item in stranger.list_repo_tree("ann/full", repo_type="space", recursive=True)}
    assert set(tree) == {*FILES, ".gitattributes", "assets"}
    assert type(tree["assets"]).__name__ == "RepoFolder"
    inner = stranger.list_repo_tree("ann/full", "assets", repo_type="space")
    assert {item.path for item in inner} == {"assets/page.html", "assets/ä 100%.txt"}
    with pytest.raises(RevisionNotFoundError):
        list(stranger.list_repo_tree("ann/full", repo_type="space", revision="nope"))
    with pytest.raises(EntryNotFoundError):
        list(stranger.list_repo_tree("ann/full", "nope", repo_type="space"))
    address, found = f"{world.url}/api/spaces/ann/full/tree/main?recursive=true&limit=2", []
    while address:
        response = httpx.get(address)
        found += [item["path"] for item in response.json()]
        address = response.links.get("next", {}).get("url", "")
    assert set(found) == set(tree)


def test_paths_info_leaves_out_what_is_missing(stranger: HfApi) -> None:
    found = stranger.get_paths_info("ann/full", ["app.py", "assets", "nope", "assets/page.html"], repo_type="space")
    assert {item.path for item in found} == {"app.py", "assets", "assets/page.html"}


def test_refs_and_commits_and_slashes_in_names(ann: HfApi, world: WebWorld) -> None:
    space = world.space("ann/full")
    repository = world.context.repositories.path(space.id)
    from tests.support.git import git

    git("update-ref", "refs/heads/feature/one", "main", cwd=Path(repository))
    refs = ann.list_repo_refs("ann/full", repo_type="space")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": space.sha, "feature/one": space.sha}
    assert ann.space_info("ann/full", revision="feature/one").sha == space.sha
    titles = [commit.title for commit in ann.list_repo_commits("ann/full", repo_type="space", revision="feature/one")]
    assert titles == ["an app", "Initial commit"]
    assert list(ann.list_repo_tree("ann/full", "assets", repo_type="space", revision="feature/one"))
    assert ann.file_exists("ann/full", "app.py", repo_type="space", revision="feature/one")


def test_downloads(stranger: HfApi, world: WebWorld, tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = hf_hub_download(
            "ann/full", name, repo_type="space", endpoint=world.url, token=False, cache_dir=tmp_path / "cache"
        )
        assert Path(path).read_text() == content
    folder = stranger.snapshot_download("ann/full", repo_type="space", cache_dir=tmp_path / "other")
    assert (Path(folder) / "assets/ä 100%.txt").read_text() == "odd name"
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("ann/full", "nope", repo_type="space", endpoint=world.url, token=False, cache_dir=tmp_path)


def test_contents_are_never_pages_of_ours(world: WebWorld) -> None:
    address = f"{world.url}/spaces/ann/full/resolve/main/assets/page.html"
    answer = httpx.get(address)
    assert answer.text == FILES["assets/page.html"]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    head = httpx.head(address)
    assert head.headers["etag"] == answer.headers["etag"]
    assert head.headers["x-repo-commit"] == world.space("ann/full").sha
    assert head.headers["content-length"] == str(len(FILES["assets/page.html"]))
    missing = httpx.head(f"{world.url}/spaces/ann/full/resolve/main/nope")
    assert (missing.status_code, missing.headers["x-error-code"]) == (404, "EntryNotFound")
    assert missing.headers["x-repo-commit"] == world.space("ann/full").sha


@pytest.mark.parametrize(
    ("asked", "status", "content", "shown"),
    [
        ("bytes=8-", 206, FILES["assets/page.html"][8:], "bytes 8-24/25"),
        ("bytes=0-0", 206, "<", "bytes 0-0/25"),
        ("bytes=-3", 206, "pt>", "bytes 22-24/25"),
        ("bytes=5-999", 206, FILES["assets/page.html"][5:], "bytes 5-24/25"),
        ("bytes=25-", 416, "", "bytes */25"),
        ("bytes=0-1,3-4", 200, FILES["assets/page.html"], None),
        ("lines=1-2", 200, FILES["assets/page.html"], None),
    ],
)
def test_ranges(world: WebWorld, asked: str, status: int, content: str, shown: str | None) -> None:
    answer = httpx.get(f"{world.url}/spaces/ann/full/resolve/main/assets/page.html", headers={"range": asked})
    assert (answer.status_code, answer.text, answer.headers.get("content-range")) == (status, content, shown)


# --- runtime --------------------------------------------------------------------------------------------------
def _running(world: WebWorld, name: str) -> str:
    """A Space whose newest commit was built and runs."""
    space, now, store = world.create(name), time.time(), world.context.store
    build = store.request_build(space.id, CommitSha(space.sha or ""), factory=False, now=now)
    store.happen(space.id, Event.COMMIT_ACCEPTED, now=now)
    store.build_finished(build.id, BuildStatus.SUCCEEDED, now=now)
    revision = Revision(
        id=f"r-{space.id}", space_id=space.id, sha=build.sha, title="x", created_at=now, build_id=build.id, image={}
    )
    store.add_revision(revision)
    store.happen(space.id, Event.BUILD_SUCCEEDED, now=now, revision_id=revision.id)
    store.happen(space.id, Event.REPLICA_READY, now=now)
    return space.id


def test_the_life_of_a_space(ann: HfApi, world: WebWorld) -> None:
    _running(world, "ann/alive")
    assert ann.get_space_runtime("ann/alive").stage == "RUNNING"
    assert ann.set_space_sleep_time("ann/alive", 120).sleep_time == 120
    headers = {"authorization": f"Bearer {world.tokens['ann']}"}
    assert httpx.delete(f"{world.url}/api/spaces/ann/alive/sleeptime").status_code == 401
    assert httpx.delete(f"{world.url}/api/spaces/ann/alive/sleeptime", headers=headers).status_code == 200
    assert world.space("ann/alive").sleep_time_s is None
    assert ann.pause_space("ann/alive").stage == "PAUSED"
    assert ann.restart_space("ann/alive").stage == "APP_STARTING"
    assert ann.restart_space("ann/alive", factory_reboot=True).stage == "BUILDING"
    assert world.context.store.builds(world.space("ann/alive").id)[0].factory
    assert ann.request_space_hardware("ann/alive", "cpu-basic").requested_hardware == "cpu-basic"
    with pytest.raises(HfHubHTTPError, match="no hardware"):
        ann.request_space_hardware("ann/alive", "a10g-small")
    assert [item.name for item in ann.list_spaces_hardware()] == ["cpu-basic"]


def test_variables_and_secrets(ann: HfApi, bob: HfApi, world: WebWorld) -> None:
    _running(world, "ann/varied")
    assert ann.add_space_variable("ann/varied", "MODE", "fast", description="how")["MODE"].value == "fast"
    assert world.space("ann/varied").stage is Stage.APP_STARTING
    assert ann.get_space_variables("ann/varied")["MODE"].description == "how"
    assert ann.delete_space_variable("ann/varied", "MODE") == {}
    ann.add_space_secret("ann/varied", "KEY", "s3cret")
    assert (
        "s3cret"
        not in httpx.get(
            f"{world.url}/api/spaces/ann/varied/secrets", headers={"authorization": f"Bearer {world.tokens['ann']}"}
        ).text
    )
    assert set(ann.get_space_secrets("ann/varied")) == {"KEY"}
    ann.delete_space_secret("ann/varied", "KEY")
    assert ann.get_space_secrets("ann/varied") == {}
    with pytest.raises(HfHubHTTPError, match="Only its owner or an admin"):
        bob.add_space_secret("ann/varied", "KEY", "x")
    with pytest.raises(HfHubHTTPError, match="no variable name"):
        ann.add_space_variable("ann/varied", "not a name", "x")


def test_build_logs_are_replayed_followed_and_end_with_the_build(ann: HfApi, world: WebWorld) -> None:
    store, logs = world.context.store, world.context.logs
    space = world.create("ann/logged")
    build = store.request_build(space.id, CommitSha(space.sha or ""), factory=False, now=time.time())
    logs.append_build(build.id, 0, [(time.time() - 60, "first"), (time.time() - 59, "second {x}")])
    seen: list[str] = []
    two = threading.Event()

    def follow() -> None:
        for line in ann.fetch_space_logs("ann/logged", build=True, follow=True):
            seen.append(str(line))
            if len(seen) == 2:
                two.set()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        assert two.wait(10)
        logs.append_build(build.id, 2, [(time.time() - 1, "third")])
        store.build_finished(build.id, BuildStatus.FAILED, now=time.time())
        following.result(timeout=30)
    assert [line.strip() for line in seen] == ["first", "second {x}", "third"]
    assert [str(line).strip() for line in ann.fetch_space_logs("ann/logged", build=True)] == [
        "first", "second {x}", "third",
    ]  # fmt: skip


def test_run_logs_need_the_right_to_write(bob: HfApi, world: WebWorld) -> None:
    with pytest.raises(HfHubHTTPError) as told:
        list(bob.fetch_space_logs("ann/full"))
    assert told.value.response.status_code == 403


def test_nobody_follows_so_many_logs_that_others_cannot(world: WebWorld) -> None:
    address = f"{world.url}/api/spaces/ann/full/logs/run"

    def follow(stack: contextlib.ExitStack, user: str) -> int:
        headers = {"authorization": f"Bearer {world.tokens[user]}"}
        return stack.enter_context(httpx.stream("GET", address, headers=headers)).status_code

    assert world.app is not None
    with contextlib.ExitStack() as stack:
        assert {follow(stack, "ann") for _ in range(FOLLOWED_MAX)} == {200}
        assert follow(stack, "ann") == 503
        assert follow(stack, "root") == 200
    deadline = time.monotonic() + 10
    while world.app.state.log_followers.held:
        assert time.monotonic() < deadline, "places of clients that have gone are still held"
        time.sleep(0.05)


def test_downloads_of_a_client_that_does_not_read_make_room(world: WebWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "SEND_S", 0.5)
    world.create("ann/heavy")
    push_files(world.remote("ann/heavy", "ann"), {"x.bin": os.urandom(8 << 20)}, message="heavy")
    assert world.app is not None
    lane = world.app.state.downloads["stranger"]
    host, _, port = world.url.removeprefix("http://").partition(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.sendall(f"GET /spaces/ann/heavy/resolve/main/x.bin HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        for wanted in (1, 0):
            deadline = time.monotonic() + 10
            while lane.held != wanted:
                assert time.monotonic() < deadline, f"{lane.held} places are held, not {wanted}"
                time.sleep(0.005)
    whole = httpx.get(f"{world.url}/spaces/ann/heavy/resolve/main/x.bin")
    assert (whole.status_code, len(whole.content)) == (200, 8 << 20)


# --- ours -----------------------------------------------------------------------------------------------------
def test_builds_history_status_and_host(world: WebWorld) -> None:
    headers = {"authorization": f"Bearer {world.tokens['ann']}"}
    with httpx.Client(base_url=f"{world.url}/api/spaces/ann/full", headers=headers) as client:
        assert client.get("/builds").json()[0]["status"] == "queued"
        assert any("an app" in entry["text"] for entry in client.get("/history").json())
        assert client.get("/status").json()["phase"] == "queued"
        assert client.get("/host").json()["subdomain"] == "ann-full"
        assert client.get("/revisions").json() == []
        assert client.post("/sleep").status_code == 409
    found = httpx.get(f"{world.url}/api/spaces/by-subdomain/ann-full").json()
    assert (found["id"], found["runtime"]["stage"]) == ("ann/full", "BUILDING")


def test_the_waking_page_of_a_space_is_told_its_status(world: WebWorld) -> None:
    def ask(host: str) -> httpx.Response:
        return httpx.get(f"{world.url}/.dormouse/status", headers={"host": host})

    assert ask("ann-full.localhost:7878").json()["stage"] == "BUILDING"
    assert ask("ann-private.localhost").status_code == ask("nobody.localhost").status_code != 200


def test_admins_manage_users(world: WebWorld) -> None:
    root = {"authorization": f"Bearer {world.tokens['root']}"}
    for users in (f"{world.url}/api/users", f"{world.url}/api/dormouse/users"):
        with httpx.Client(headers=root) as client:
            made = client.post(users, json={"name": "eve", "fullname": "Eve"}).json()
            assert HfApi(endpoint=world.url, token=made["token"]).whoami()["fullname"] == "Eve"
            assert "eve" in {user["name"] for user in client.get(users).json()}
            assert client.post(users, json={"name": "eve"}).status_code == 409
            again = client.post(f"{users}/eve/tokens", json={"label": "ci", "role": "read"}).json()
            assert again["token"].startswith("hf_")
            assert client.delete(f"{users}/eve").status_code == 200
            assert client.delete(f"{users}/root").status_code == 409
    ann = {"authorization": f"Bearer {world.tokens['ann']}"}
    assert httpx.get(f"{world.url}/api/users", headers=ann).status_code == 403
    assert httpx.get(f"{world.url}/metrics", headers=ann).status_code == 403
    assert "dormouse_http_requests_total" in httpx.get(f"{world.url}/metrics", headers=root).text
    reader = {"authorization": f"Bearer {world.token('root', role='read')}"}
    assert 'route="/api/spaces/{owner}/{name}/runtime"' in httpx.get(f"{world.url}/metrics", headers=reader).text
    assert httpx.post(f"{world.url}/api/users", headers=reader, json={"name": "eve"}).status_code == 403
    seen = httpx.get(f"{world.url}/api/admin/overview", headers=root).json()
    assert seen["spaces"]["BUILDING"] >= 1


def test_other_addresses_of_the_api_answer_in_the_clients_words(world: WebWorld) -> None:
    answer = httpx.get(f"{world.url}/api/jobs/ann")
    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "NotFound")
    assert "error" in answer.json()
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=world.url, token=False).model_info("ann/full")
    assert httpx.put(f"{world.url}/api/spaces/ann/full").status_code in (404, 405)
