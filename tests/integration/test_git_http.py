"""Git over HTTP with real git: cloning, pushing, and what authors read when something is wrong."""

import contextlib
import gzip
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.space import BuildStatus
from orchestrator.flows.dispatch_build import token_hash
from orchestrator.web import git_lanes, git_process
from orchestrator.web.git_process import packet
from tests.support.git import git, push_files
from tests.support.web_world import WebWorld, web_world

APP = {"README.md": "---\ntitle: Hello\nsdk: gradio\n---\n", "app.py": "import gradio\n"}
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world(repo_bytes_max=3 * MEGABYTE) as served:
        served.create("ann/public")
        served.create("ann/private", visibility="private")
        yield served


def test_a_push_is_received_and_answers_on_remote_lines(world: WebWorld) -> None:
    world.create("ann/pushed")
    said = push_files(world.remote("ann/pushed", "ann"), APP, message="first app")
    space = world.space("ann/pushed")
    assert space.stage is Stage.BUILDING
    build = world.context.store.builds(space.id)[0]
    assert f"remote:   App:      http://ann-pushed.localhost:{world.context.settings.port}" in said
    assert f"/spaces/ann/pushed/builds/{build.id}" in said
    assert space.sha == build.sha == world.context.repositories.resolve(space.id, "main")


def test_a_push_without_an_app_file_is_stored_and_explained(world: WebWorld) -> None:
    world.create("ann/broken")
    said = push_files(
        world.remote("ann/broken", "ann"), {"README.md": "---\nsdk: gradio\nsdk_version: [1, 2\n---\n"}, message="oops"
    )
    assert world.space("ann/broken").stage is Stage.CONFIG_ERROR
    assert "remote:" in said
    assert "README.md:" in said


def _own_history(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    git("init", "-q", "-b", "main", cwd=folder)
    (folder / "README.md").write_text("---\nsdk: gradio\n---\n")
    (folder / "app.py").write_text(text)
    git("add", "-A", cwd=folder)
    git("commit", "-q", "-m", text, cwd=folder)


def test_a_first_push_of_a_history_of_its_own_needs_no_force(world: WebWorld, tmp_path: Path) -> None:
    world.create("ann/own")
    _own_history(tmp_path / "app", "import gradio")
    said = git("push", world.remote("ann/own", "ann"), "HEAD:main", cwd=tmp_path / "app")
    assert "remote:   App:" in said
    head = git("rev-parse", "HEAD", cwd=tmp_path / "app").strip()
    assert world.space("ann/own").sha == head
    _own_history(tmp_path / "other", "import streamlit")
    refused = git("push", world.remote("ann/own", "ann"), "HEAD:main", cwd=tmp_path / "other", check=False)
    assert "rejected" in refused, "only the commit that the repository began with makes way"
    assert world.space("ann/own").sha == head
    assert "dormouse" not in git("ls-remote", world.remote("ann/own", "ann"), cwd=tmp_path)


@pytest.mark.parametrize("suffix", ["", ".git"])
def test_a_stranger_clones_a_public_space(world: WebWorld, tmp_path: Path, suffix: str) -> None:
    git("clone", "-q", world.remote("ann/public") + suffix, "copy", cwd=tmp_path)
    assert (tmp_path / "copy" / "README.md").read_text().startswith("---\ntitle: public")


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_every_version_of_the_protocol_works(world: WebWorld, tmp_path: Path, version: str) -> None:
    git("-c", f"protocol.version={version}", "clone", "-q", world.remote("ann/public"), "copy", cwd=tmp_path)
    assert (tmp_path / "copy" / ".gitattributes").exists()


def test_strangers_are_asked_for_credentials_whether_or_not_the_space_exists(world: WebWorld) -> None:
    answers = [
        httpx.get(f"{world.remote(name)}/info/refs?service=git-upload-pack") for name in ("ann/private", "ann/nothing")
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert all(answer.headers["www-authenticate"].startswith("Basic") for answer in answers)
    assert answers[0].text.replace("ann/private", "ann/nothing") == answers[1].text
    pushing = httpx.get(f"{world.remote('ann/public')}/info/refs?service=git-receive-pack")
    assert pushing.status_code == 401


def test_a_private_space_is_cloned_by_its_owner_only(world: WebWorld, tmp_path: Path) -> None:
    git("clone", "-q", world.remote("ann/private", "ann"), "mine", cwd=tmp_path)
    said = git("clone", world.remote("ann/private", "bob"), "theirs", cwd=tmp_path, check=False)
    assert "not found" in said
    assert not (tmp_path / "theirs").exists()


def test_a_wrong_token_is_refused_with_a_sentence(world: WebWorld, tmp_path: Path) -> None:
    said = git("clone", world.remote("ann/private", token="hf_wrong"), "copy", cwd=tmp_path, check=False)
    assert "remote: The token is wrong, has expired or was revoked." in said
    assert "Authentication failed" in said


def test_others_and_read_tokens_cannot_push(world: WebWorld) -> None:
    before = world.context.repositories.resolve(world.space("ann/public").id, "main")
    for secret, reason in (
        (world.tokens["bob"], "Only its owner or an admin may change"),
        (world.token("ann", role="read"), "This token may only read"),
    ):
        with pytest.raises(AssertionError, match=reason):
            push_files(world.remote("ann/public", token=secret), APP, message="no")
    assert world.context.repositories.resolve(world.space("ann/public").id, "main") == before


def test_pushing_to_a_space_that_does_not_exist_says_how_to_create_it(world: WebWorld, tmp_path: Path) -> None:
    git("init", "-q", "-b", "main", ".", cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "x", cwd=tmp_path)
    said = git("push", world.remote("ann/nothing", "ann"), "main", cwd=tmp_path, check=False)
    assert "create it first" in said


def test_a_push_that_is_too_large_is_refused_with_a_sentence(world: WebWorld) -> None:
    world.create("ann/large")
    with pytest.raises(AssertionError, match=r"remote: This push is larger than the 3 MiB that Dormouse takes") as told:
        push_files(world.remote("ann/large", "ann"), {**APP, "big.dat": os.urandom(7 * MEGABYTE)}, message="big")
    assert "rejected" in str(told.value) or "failed to push" in str(told.value)
    # Nothing of it stays, and a smaller one is welcome afterwards.
    push_files(world.remote("ann/large", "ann"), {**APP, "small.dat": os.urandom(2 * MEGABYTE)}, message="small")
    assert world.space("ann/large").stage is Stage.BUILDING


def test_main_cannot_be_deleted_but_may_be_rewritten(world: WebWorld, tmp_path: Path) -> None:
    world.create("ann/rewritten")
    remote = world.remote("ann/rewritten", "ann")
    work = _clone(remote, tmp_path / "b")
    git("commit", "-q", "--amend", "-m", "rewritten", cwd=work)
    git("push", "-q", "--force", "origin", "main", cwd=work)
    commits = world.context.repositories.commits(world.space("ann/rewritten").id, "main")
    assert [commit.title for commit in commits] == ["rewritten"]
    assert "prohibited" in git("push", remote, ":main", cwd=work, check=False)


def test_trees_that_would_write_outside_of_a_checkout_are_refused(world: WebWorld, tmp_path: Path) -> None:
    world.create("ann/evil")
    work = _clone(world.remote("ann/evil", "ann"), tmp_path / "work")
    blob = git("rev-parse", "HEAD:README.md", cwd=work).strip()
    (tmp_path / "entry").write_bytes(b"100644 ..\0" + bytes.fromhex(blob))
    tree = git("hash-object", "-t", "tree", "-w", "--literally", str(tmp_path / "entry"), cwd=work).strip()
    commit = git("commit-tree", tree, "-p", "HEAD", "-m", "evil", cwd=work).strip()
    said = git("push", "origin", f"{commit}:refs/heads/main", cwd=work, check=False)
    assert "hasDotdot" in said
    assert world.context.repositories.commits(world.space("ann/evil").id, "main")[0].title == "Initial commit"


def test_a_worker_fetches_its_own_repository_only(world: WebWorld, tmp_path: Path) -> None:
    space = world.create("ann/built", visibility="private")
    sha = world.context.repositories.resolve(space.id, "main")
    assert sha is not None
    build = world.context.store.request_build(space.id, sha, factory=False, now=time.time())
    world.context.store.build_sent(build.id, token_hash=token_hash("hfb_worker"), now=time.time())
    remote = world.remote("ann/built", token="hfb_worker")
    git("init", "-q", ".", cwd=tmp_path)
    git("fetch", "-q", "--depth=1", remote, sha, cwd=tmp_path)
    assert "403" in git("push", remote, f"{sha}:refs/heads/other", cwd=tmp_path, check=False)
    other = world.remote("ann/private", token="hfb_worker")
    assert "not found" in git("fetch", other, "main", cwd=tmp_path, check=False)
    world.context.store.build_finished(build.id, BuildStatus.FAILED, now=time.time())
    assert "Authentication failed" in git("fetch", remote, sha, cwd=tmp_path, check=False)


def test_a_push_survives_an_api_whose_internal_socket_is_away(world: WebWorld) -> None:
    world.create("ann/alone")
    folder = world.context.settings.run
    (folder / "internal.sock").rename(folder / "away.sock")
    try:
        said = push_files(world.remote("ann/alone", "ann"), APP, message="alone")
    finally:
        (folder / "away.sock").rename(folder / "internal.sock")
    assert "remote: The push is stored." in said


def test_gzip_bodies_and_bad_bodies(world: WebWorld) -> None:
    address = f"{world.remote('ann/public')}/git-upload-pack"
    kind = {"content-type": "application/x-git-upload-pack-request", "git-protocol": "version=2"}
    listing = b"0014command=ls-refs\n0000"
    zipped = httpx.post(address, content=gzip.compress(listing), headers={**kind, "content-encoding": "gzip"})
    assert b"refs/heads/main" in zipped.content
    for headers, body in (
        ({**kind, "content-encoding": "gzip"}, b"no gzip"),
        ({**kind, "content-encoding": "gzip"}, gzip.compress(listing)[:10]),
        ({**kind, "content-encoding": "br"}, listing),
        (kind, b"junk of no length"),
        ({"content-type": "text/plain"}, listing),
    ):
        answer = httpx.post(address, content=body, headers=headers)
        assert (answer.status_code, len(answer.text) > 10) == (400, True), (headers, body)
    bomb = httpx.post(
        address, content=gzip.compress(bytes(200 * MEGABYTE), 9), headers={**kind, "content-encoding": "gzip"}
    )
    assert bomb.status_code == 400


def test_a_client_that_hangs_up_takes_its_git_process_along(world: WebWorld) -> None:
    address = f"{world.remote('ann/public', 'ann')}/git-receive-pack"

    def endless() -> Iterator[bytes]:
        yield b"00"
        deadline = time.monotonic() + 20
        while not _gits("receive-pack"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), httpx.Client() as client:
        client.post(address, content=endless(), headers={"content-type": "application/x-git-receive-pack-request"})
    deadline = time.monotonic() + 20
    while _gits("receive-pack"):
        assert time.monotonic() < deadline, "git outlives its client"
        time.sleep(0.02)


def _gits(service: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if service in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def test_senders_that_say_nothing_take_no_place_of_others(
    world: WebWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = world.create("ann/sieged")
    sha = world.context.repositories.resolve(space.id, "main")
    assert sha is not None
    build = world.context.store.request_build(space.id, sha, factory=False, now=time.time())
    world.context.store.build_sent(build.id, token_hash=token_hash("hfb_sieged"), now=time.time())
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(_half_asked(world, "10.9.9.9")) for _ in range(30)]
        began = time.monotonic()
        for user in ("", "bob"):
            git("clone", "-q", world.remote("ann/sieged", user), f"copy-{user}", cwd=tmp_path)
        git("fetch", "-q", world.remote("ann/sieged", token="hfb_sieged"), sha, cwd=tmp_path / "copy-bob")
        push_files(world.remote("ann/sieged", "ann"), APP, message="through")
        assert time.monotonic() - began < git_lanes.PLACE_WAIT_S
        assert _held(world) == 0
        # Nor does one address have all the places of strangers: the rest of the idle ones wait in their own line.
        assert world.app is not None
        assert world.app.state.git_lanes.arriving["stranger"].held <= 8
        assert all(not select.select([sender], [], [], 0)[0] for sender in idle)


def test_a_request_that_does_not_arrive_is_given_up(world: WebWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_lanes, "BODY_S", 0.3)
    with _half_asked(world, "10.9.9.8") as sender:
        sender.settimeout(10)
        assert sender.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_client_that_does_not_read_loses_its_place(
    world: WebWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_process, "SEND_IDLE_S", 0.5)
    world.create("ann/long")
    for number in range(3):
        push_files(world.remote("ann/long", "ann"), {**APP, f"{number}.dat": os.urandom(2 * MEGABYTE)}, message="long")
    want = world.context.repositories.resolve(world.space("ann/long").id, "main")
    body = packet(b"command=fetch\n") + b"0001" + packet(f"want {want}\n".encode()) + packet(b"done\n") + b"0000"
    with _asked(world, "ann/long", "10.9.9.7", len(body), receive_buffer=4096) as client:
        client.sendall(body)
        _eventually(lambda: _held(world) == 1)
        _eventually(lambda: _held(world) == 0)
        _eventually(lambda: not _gits("upload-pack"))


def _asked(
    world: WebWorld, name: str, address: str, length: int, *, receive_buffer: int | None = None
) -> socket.socket:
    """A connection on which the head of a request to fetch was sent."""
    host, _, port = world.url.removeprefix("http://").partition(":")
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect((host, int(port)))
    head = (
        f"POST /spaces/{name}/git-upload-pack HTTP/1.1\r\nHost: {host}:{port}\r\nX-Forwarded-For: {address}\r\n"
        f"Content-Type: application/x-git-upload-pack-request\r\nGit-Protocol: version=2\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    client.sendall(head.encode())
    return client


def _half_asked(world: WebWorld, address: str) -> socket.socket:
    client = _asked(world, "ann/public", address, 100)
    client.sendall(b"0")
    return client


def _held(world: WebWorld) -> int:
    """How many git processes run for strangers."""
    assert world.app is not None
    return int(world.app.state.git_lanes.processes["stranger"].held)


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _clone(remote: str, folder: Path) -> Path:
    git("clone", "-q", remote, str(folder), cwd=folder.parent)
    return folder
