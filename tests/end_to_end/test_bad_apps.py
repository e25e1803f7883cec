"""Bad input has a named outcome and takes nothing else down."""

import pytest

from tests.end_to_end.conftest import asgi
from tests.support.product import Product, wait_for

pytestmark = pytest.mark.e2e
README = "---\nsdk: asgi\napp_file: app.py\n{more}---\n"


@pytest.fixture(scope="module")
def neighbour(dormouse: Product) -> Product:
    dormouse.create("neighbour")
    dormouse.push("neighbour", asgi("n"))
    dormouse.wait_stage("neighbour", "RUNNING")
    return dormouse


@pytest.mark.parametrize(
    ("name", "files", "stage", "says"),
    [
        ("badyaml", {"README.md": "---\nsdk: [gradio\n---\n", "app.py": "x"}, "CONFIG_ERROR", "README.md:"),
        ("bomb", {"README.md": "---\na: &a [x,x]\nb: [*a,*a]\n---\n", "app.py": "x"}, "CONFIG_ERROR", "README.md:"),
        ("junk", {"README.md": b"\x00\x01\x02" * 1000, "app.py": "x"}, "CONFIG_ERROR", "README.md"),
        ("empty", {"README.md": "nothing here\n"}, "NO_APP_FILE", "app"),
        ("docker", {"README.md": "---\nsdk: docker\n---\n", "Dockerfile": "FROM x"}, "CONFIG_ERROR", "engine"),
        (
            "dotdot",
            {"README.md": "---\nsdk: gradio\napp_file: ../x.py\n---\n", "app.py": "x"},
            "CONFIG_ERROR",
            "app_file",
        ),
    ],
)
def test_a_push_that_cannot_be_used_is_explained(
    dormouse: Product, name: str, files: dict[str, str | bytes], stage: str, says: str
) -> None:
    dormouse.create(name)
    printed = dormouse.push(name, files)
    remote = "\n".join(line for line in printed.splitlines() if line.startswith("remote:"))
    assert stage in remote
    assert says in remote
    runtime = dormouse.runtime(name)
    assert runtime["stage"] == stage
    assert runtime["errorMessage"]


@pytest.mark.parametrize(
    ("name", "app", "more", "stage", "says"),
    [
        ("exits", "raise SystemExit(3)", "", "RUNTIME_ERROR", "3"),
        ("deaf", "import time\ntime.sleep(1e6)", "startup_duration_timeout: 4s\n", "RUNTIME_ERROR", ""),
        ("greedy", "x = []\nwhile True: x.append(bytearray(50_000_000))", "", "RUNTIME_ERROR", "memory"),
    ],
)
def test_an_app_that_never_serves_is_an_error_that_says_why(
    neighbour: Product, name: str, app: str, more: str, stage: str, says: str
) -> None:
    neighbour.create(name)
    source = "async def app(scope, receive, send): ...\n" + app
    neighbour.push(name, {"README.md": README.format(more=more), "app.py": source})
    runtime = neighbour.wait_stage(name, stage, limit_s=180)
    assert says in str(runtime["errorMessage"]).lower()
    assert neighbour.app("neighbour").text.startswith("version n")


def test_a_fork_bomb_stays_in_its_box(neighbour: Product) -> None:
    bomb = asgi("b")
    bomb["app.py"] += """
import os, threading

def fork():
    for _ in range(5000):
        try:
            if os.fork() == 0:
                import time
                time.sleep(600)
        except OSError:
            return

threading.Thread(target=fork, daemon=True).start()
"""
    neighbour.create("bomb2")
    neighbour.push("bomb2", bomb)
    neighbour.wait_stage("bomb2", "RUNNING", "RUNTIME_ERROR")
    for _ in range(10):
        assert neighbour.app("neighbour").status_code == 200
    neighbour.api("POST", "/api/spaces/admin/bomb2/pause")


def test_an_app_cannot_see_its_neighbour_or_dormouse(neighbour: Product) -> None:
    spy = asgi()
    spy["app.py"] += f"""
import os, socket

def look():
    found = []
    for path in ({str(neighbour.data)!r}, {str(neighbour.data)!r} + "/dormouse.db", "/root/.bashrc", "/run/redis.sock"):
        try:
            os.stat(path)
            found.append(path)
        except OSError:
            pass
    if len([p for p in os.listdir("/proc") if p.isdigit()]) > 12:
        found.append("processes")
    try:
        socket.create_connection(("127.0.0.1", {neighbour.port}), 1)
        found.append("gateway")
    except OSError:
        pass
    return "-".join(found) or "nothing"

VERSION = look()
"""
    neighbour.create("spy")
    neighbour.push("spy", spy)
    neighbour.wait_stage("spy", "RUNNING")
    assert neighbour.app("spy").text == "version nothing got 0 bytes"


def test_requirements_that_do_not_exist_are_named(dormouse: Product) -> None:
    dormouse.create("nopkg")
    dormouse.push("nopkg", asgi() | {"requirements.txt": "this-package-does-not-exist-xyz==1\n"})
    runtime = dormouse.wait_stage("nopkg", "BUILD_ERROR", limit_s=120)
    assert "this-package-does-not-exist-xyz" in runtime["errorMessage"]


def test_a_python_that_is_not_there_is_a_configuration_error(dormouse: Product) -> None:
    dormouse.create("nopython")
    dormouse.push("nopython", asgi(readme='sdk: asgi\npython_version: "3.99"'))
    runtime = dormouse.wait_stage("nopython", "CONFIG_ERROR", limit_s=120)
    assert "3.99" in runtime["errorMessage"]
    assert "3.11" in runtime["errorMessage"]


def test_strangers_and_wrong_names(dormouse: Product) -> None:
    assert dormouse.api("GET", "/api/whoami-v2", token="hf_wrong").status_code == 401
    assert dormouse.api("POST", "/api/spaces/admin/neighbour/pause", token=None).status_code in (401, 404)
    assert dormouse.api("GET", "/api/spaces/admin/never-made").headers["x-error-code"] == "RepoNotFound"
    for name in ("-x", "a..b", "x.git", "x" * 97, "a--b", "ü"):
        body = {"name": name, "organization": "admin", "type": "space", "sdk": "gradio"}
        answer = dormouse.api("POST", "/api/repos/create", json=body)
        assert answer.status_code == 400, (name, answer.text)
        assert answer.json()["error"]
    assert dormouse.app("never-made").status_code == 404
    wait_for(lambda: dormouse.api("GET", "/healthz").status_code == 200, 5, "health")
