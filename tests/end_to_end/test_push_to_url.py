"""The main job: a push becomes a URL, falls asleep, and is woken by whatever comes first."""

import concurrent.futures
import contextlib
import time

import httpx
import pytest

from tests.end_to_end.conftest import asgi
from tests.support.product import Product, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def echo(dormouse: Product) -> Product:
    dormouse.create("echo", "gradio")
    printed = dormouse.push("echo", asgi("1"))
    assert f"remote:   App:      {dormouse.app_url('echo')}" in printed
    assert "remote:   Progress: " in printed
    dormouse.wait_stage("echo", "RUNNING")
    return dormouse


def test_the_app_answers_under_its_own_host(echo: Product) -> None:
    answer = echo.app("echo")
    assert (answer.status_code, answer.text) == (200, "version 1 got 0 bytes")


def test_a_held_request_wakes_it(echo: Product) -> None:
    echo.sleep("echo")
    answer = echo.app("echo")
    assert (answer.status_code, answer.text) == (200, "version 1 got 0 bytes")
    assert echo.runtime("echo")["stage"] == "RUNNING"


def test_a_body_is_held_whole(echo: Product) -> None:
    echo.sleep("echo")
    answer = echo.app("echo", "/upload", method="POST", content=b"x" * (5 << 20))
    assert (answer.status_code, answer.text) == (200, f"version 1 got {5 << 20} bytes")


def test_an_event_stream_wakes_it(echo: Product) -> None:
    echo.sleep("echo")
    answer = echo.app("echo", "/events", headers={"Accept": "text/event-stream"})
    assert [line for line in answer.text.splitlines() if line] == [f"data: {n}" for n in range(5)]


def test_a_websocket_wakes_it(echo: Product) -> None:
    echo.sleep("echo")
    with echo.websocket("echo") as socket:
        socket.send("hello")
        assert socket.recv(timeout=10) == "echo hello"


def test_many_requests_at_once_start_one_replica(echo: Product) -> None:
    echo.sleep("echo")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: echo.app("echo"), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    history = echo.api("GET", "/api/spaces/admin/echo/history").json()
    events = history if isinstance(history, list) else history["events"]
    newest_wake = next(event for event in events if "visit" in event["kind"])
    assert "woken by a visit" in newest_wake["text"]


def test_a_browser_sees_the_waking_page_at_once(echo: Product) -> None:
    echo.sleep("echo")
    page = echo.app("echo", headers={"Accept": "text/html,application/xhtml+xml"})
    assert page.status_code == 503
    assert page.headers["cache-control"] == "no-store"
    assert "retry-after" in page.headers

    def woken() -> bool:
        answer = echo.app("echo", headers={"Accept": "text/html,application/xhtml+xml"})
        return answer.status_code == 200 and answer.text.startswith("version")

    wait_for(woken, 60, "the waking page to become the app")


def test_a_second_push_replaces_it_without_a_gap(echo: Product) -> None:
    assert echo.app("echo").status_code == 200
    echo.push("echo", asgi("2"))
    seen: list[str] = []

    def new_version() -> bool:
        answer = echo.app("echo")
        assert answer.status_code == 200
        seen.append(answer.text)
        return answer.text.startswith("version 2")

    wait_for(new_version, 60, "the second version")
    assert seen[0].startswith("version 1") or len(seen) == 1
    echo.wait_stage("echo", "RUNNING")


def test_a_broken_push_leaves_the_old_revision_serving(echo: Product) -> None:
    before, files = echo.app("echo").text, asgi("3")
    printed = echo.push("echo", files | {"README.md": "---\ntitle: x\nsdk: [gradio\n---\n"})
    assert "README.md:" in printed
    assert echo.runtime("echo")["stage"] == "CONFIG_ERROR"
    assert echo.app("echo").text == before
    echo.push("echo", files | {"app.py": "raise SystemExit('no')\n" + files["app.py"]})
    echo.wait_stage("echo", "RUNTIME_ERROR")
    assert echo.app("echo").text == before
    echo.sleep("echo")
    assert echo.app("echo").text == before, "the older revision is woken, not the broken one"
    echo.push("echo", asgi("4"))
    wait_for(lambda: echo.app("echo").text.startswith("version 4"), 60, "the mended version")


def test_a_crash_is_one_more_wake(echo: Product) -> None:
    assert echo.app("echo").status_code == 200
    with contextlib.suppress(httpx.HTTPError):
        assert echo.app("echo", "/crash", method="POST", content=b"x" * (2 << 20)).status_code != 200
    assert wait_for(lambda: echo.app("echo").status_code == 200, 30, "the app to answer again")


def test_it_falls_asleep_by_itself_and_says_so(echo: Product) -> None:
    answer = echo.api("POST", "/api/spaces/admin/echo/sleeptime", json={"seconds": 3})
    assert answer.json()["gcTimeout"] == 3
    assert echo.app("echo").status_code == 200
    echo.wait_stage("echo", "SLEEPING", limit_s=40)
    echo.api("POST", "/api/spaces/admin/echo/sleeptime", json={"seconds": -1})


def test_a_request_in_progress_keeps_it_awake(echo: Product) -> None:
    assert echo.app("echo").status_code == 200
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(echo.app, "echo", "/slow")
        time.sleep(0.3)
        echo.api("POST", "/api/spaces/admin/echo/sleep")
        assert slow.result().text.startswith("version")
    echo.wait_stage("echo", "SLEEPING", limit_s=40)


def test_pause_and_restart(echo: Product) -> None:
    assert echo.app("echo").status_code == 200
    assert echo.api("POST", "/api/spaces/admin/echo/pause").json()["stage"] == "PAUSED"
    wait_for(lambda: echo.app("echo").status_code == 503, 20, "the paused Space to be withheld")
    assert echo.runtime("echo")["stage"] == "PAUSED"
    assert echo.api("POST", "/api/spaces/admin/echo/restart").json()["stage"] == "APP_STARTING"
    answer = echo.app("echo")
    assert answer.status_code == 200, answer.text


def test_variables_reach_the_app_and_secrets_are_never_shown(dormouse: Product) -> None:
    app = asgi()["app.py"] + "\nimport os\nVERSION = os.environ.get('COLOUR', '-') + os.environ.get('KEY', '-')[:3]\n"
    dormouse.create("vars")
    dormouse.api("POST", "/api/spaces/admin/vars/variables", json={"key": "COLOUR", "value": "red"})
    dormouse.api("POST", "/api/spaces/admin/vars/secrets", json={"key": "KEY", "value": "abcsecret"})
    dormouse.push("vars", {**asgi(), "app.py": app})
    dormouse.wait_stage("vars", "RUNNING")
    assert dormouse.app("vars").text.startswith("version redabc")
    assert "abcsecret" not in dormouse.api("GET", "/api/spaces/admin/vars/secrets").text
    assert b"abcsecret" not in (dormouse.data / "dormouse.db").read_bytes()


def test_delete_leaves_nothing(dormouse: Product) -> None:
    dormouse.create("gone")
    dormouse.push("gone", asgi())
    dormouse.wait_stage("gone", "RUNNING")
    answer = dormouse.api(
        "DELETE", "/api/repos/delete", json={"name": "gone", "organization": "admin", "type": "space"}
    )
    assert answer.status_code == 200, answer.text
    dormouse.wait_stage("gone", "MISSING", limit_s=40)
    wait_for(lambda: dormouse.app("gone").status_code == 404, 10, "the app to be gone")
    dormouse.create("gone")
    assert dormouse.runtime("gone")["stage"] == "NO_APP_FILE"
