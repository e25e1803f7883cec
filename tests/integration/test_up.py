"""`dormouse up` and the command line on the real processes: first start, second start, Ctrl-C, a hung child."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.product import ADMIN_TOKEN, Product, running, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("up") / "data") as product:
        yield product


def dormouse(product: Product, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    given = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "DORMOUSE_DATA": str(product.data),
        **environ,
    }
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=180, check=False)


def test_standard_output_is_the_one_line(tmp_path):
    product = Product(tmp_path / "data")
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        command = [sys.executable, "-m", "orchestrator.cli.main", "up"]
        given = {key: value for key, value in product.environment.items() if key != "DORMOUSE_ADMIN_TOKEN"}
        process = subprocess.Popen(command, env=given, stdout=out, stderr=err)
        wait_for((tmp_path / "out").read_text, 60, "the line `ready:`")
        family = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert time.monotonic() - began < 15
    assert (tmp_path / "out").read_text() == f"ready: {product.url}\n"
    shown = (tmp_path / "err").read_text()
    assert len(re.findall(r"admin's token \(shown this once\): hf_[A-Za-z0-9]{40}\n", shown)) == 1
    assert "users token admin" in shown
    for noise in ("egress_ready", "runner_ready", "build_ended"):
        assert noise not in shown
    assert "Traceback" not in shown
    assert [process for process in family if process.is_running()] == []
    assert (product.data / "key").stat().st_mode & 0o777 == 0o600
    assert product.data.stat().st_mode & 0o777 == 0o700
    with running(product.data, nonsense="1") as again:
        assert not any("shown this once" in line for line in again.lines)
        assert sum(f"sign in at {again.url}/login (a lost token: " in line for line in again.lines) == 1
        assert any("DORMOUSE_NONSENSE is no setting" in line for line in again.lines)


def test_the_given_token_is_the_admins_and_is_not_shown(product):
    assert product.api("GET", "/api/whoami-v2").json()["name"] == "admin"
    assert not any(ADMIN_TOKEN in line for line in product.lines)
    for pid in product.children().values():
        assert ADMIN_TOKEN not in "\n".join(psutil.Process(pid).environ().values())


def test_the_command_line_finds_the_installation_by_its_folder(product):
    result = dormouse(product, "users", "ls")
    assert (result.returncode, result.stdout.split("\t")[0]) == (0, "admin"), result.stderr
    result = dormouse(product, "users", "ls", DORMOUSE_URL=product.url, DORMOUSE_TOKEN="hf_wrong_token_000000000")
    assert result.returncode == 1
    assert "token" in result.stderr


def test_users_come_and_go(product):
    token = dormouse(product, "users", "add", "ada", "--full-name", "Ada").stdout.strip()
    assert product.api("GET", "/api/whoami-v2", token=token).json()["name"] == "ada"
    second = dormouse(product, "users", "token", "ada", "--read-only").stdout.strip()
    assert product.api("GET", "/api/whoami-v2", token=second).status_code == 200
    assert dormouse(product, "users", "add", "ada").returncode == 1
    assert dormouse(product, "users", "rm", "ada").returncode == 0
    assert product.api("GET", "/api/whoami-v2", token=token).status_code == 401
    assert dormouse(product, "users", "rm", "ada").returncode == 1


def test_doctor_knows_the_processes(product):
    result = dormouse(product, "doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    for name in product.children():
        assert findings[f"process {name}"]["state"] == "ok"
    assert findings["database"]["value"].startswith("version")
    assert "isolation" in findings


def test_the_command_line_makes_one_token_however_often_it_is_called(product):
    for _ in range(3):
        assert dormouse(product, "ls").returncode == 0
    tokens = product.api("GET", "/api/dormouse/users/admin/tokens").json()
    assert len([token for token in tokens if token["label"] == "local"]) <= 1


def test_nothing_is_left_outside_of_the_data_folder(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    product = Product(tmp_path / "data")
    given = product.environment | {"HOME": str(home)}
    command = [sys.executable, "-m", "orchestrator.cli.main", "up"]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command, env=given, stdout=out, stderr=subprocess.STDOUT)
        wait_for(lambda: "ready:" in (tmp_path / "out").read_text(), 60, "the line `ready:`")
        wait_for(lambda: "pythons_found" in (tmp_path / "out").read_text(), 60, "the worker's look for interpreters")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert list(home.rglob("*")) == []


STATIC = {"README.md": "---\ntitle: Page\nsdk: static\n---\n", "index.html": "<h1>hello</h1>", "left/out.txt": "x"}


def folder(place: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def test_a_folder_becomes_a_running_space(product, tmp_path):
    source = folder(tmp_path / "my page", {**STATIC, ".gitignore": "left/\n"})
    result = dormouse(product, "push", str(source))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == product.app_url("my-page")
    assert "remote:" in result.stderr
    assert product.app("my-page").text == "<h1>hello</h1>"
    assert product.app("my-page", "/left/out.txt").status_code == 404
    assert sorted(entry.name for entry in source.iterdir()) == [".gitignore", "README.md", "index.html", "left"]
    (source / "index.html").write_text("<h1>changed</h1>")
    assert dormouse(product, "push", str(source), "--name", "admin/my-page").returncode == 0
    assert product.app("my-page").text == "<h1>changed</h1>"
    again = dormouse(product, "push", str(source))
    assert (again.returncode, again.stdout.strip()) == (0, product.app_url("my-page"))
    assert f"Nothing has changed; it runs at {product.app_url('my-page')}." in again.stderr
    rows = json.loads(dormouse(product, "ls", "--json").stdout)
    assert [row["stage"] for row in rows if row["id"] == "admin/my-page"] == ["RUNNING"]
    log = dormouse(product, "logs", "my-page", "--build").stdout.splitlines()
    assert "sdk: static" in "\n".join(log)
    assert dormouse(product, "logs", "my-page", "--build", "-n", "2").stdout.splitlines() == log[-2:]
    assert dormouse(product, "open", "my-page").stdout.strip() == product.app_url("my-page")


def test_a_repository_pushes_its_head(product, tmp_path):
    source = folder(tmp_path / "repo", STATIC)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], cwd=source, check=True)
    (source / "index.html").write_text("not committed")
    assert dormouse(product, "push", str(source)).returncode == 0
    assert product.app("repo").text == "<h1>hello</h1>"


def test_a_folder_that_cannot_run_says_why_and_where(product, tmp_path):
    source = folder(tmp_path / "broken", {"README.md": "---\nsdk: [gradio\n---\n", "app.py": "x"})
    result = dormouse(product, "push", str(source))
    assert result.returncode == 1
    assert "CONFIG_ERROR" in result.stderr
    assert "README.md" in result.stderr
    assert f"{product.url}/spaces/admin/broken" in result.stderr
    assert "127.0.0.1" not in result.stderr
    assert "Traceback" not in result.stderr


CRASHES = {"app.py": "import sys\nprint('about to give up')\nsys.exit(3)\n", "README.md": "---\nsdk: gradio\n---\n"}


def test_an_app_that_crashes_shows_the_end_of_its_log(product, tmp_path):
    source = folder(tmp_path / "crash", CRASHES)
    # Without its framework the environment is made in a moment; what is looked at is how the app ends.
    result = dormouse(product, "push", str(source))
    assert result.returncode == 1
    assert "  | about to give up\n" in result.stderr
    assert "The app ended with exit code 3. Its log says why." in result.stderr


def test_orders_and_secrets_by_the_command_line(product, tmp_path):
    source = folder(tmp_path / "ordered", STATIC)
    assert dormouse(product, "push", str(source)).returncode == 0
    slept = dormouse(product, "sleep", "ordered")
    assert (slept.returncode, slept.stderr.strip()) == (
        1,
        "A static Space uses no process; there is nothing to put to sleep.",
    )
    assert dormouse(product, "restart", "ordered", "--factory", "--wait").stdout.strip() == product.app_url("ordered")
    assert dormouse(product, "secrets", "ordered", "set", "KEY=value").returncode == 0
    assert dormouse(product, "secrets", "ordered").stdout == "KEY\n"
    assert dormouse(product, "vars", "ordered", "set", "PLACE=here").returncode == 0
    assert dormouse(product, "vars", "ordered").stdout == "PLACE\there\n"
    assert dormouse(product, "secrets", "ordered", "rm", "KEY").returncode == 0
    assert "static" in dormouse(product, "logs", "ordered").stderr
    assert dormouse(product, "rm", "ordered").returncode == 1
    assert dormouse(product, "rm", "ordered", "--yes").returncode == 0
    assert dormouse(product, "open", "ordered").returncode == 1


def test_an_unknown_space_is_refused(product):
    for command in ("sleep", "wake", "open", "logs", "restart", "pause", "vars", "secrets"):
        result = dormouse(product, command, "nowhere")
        assert result.returncode == 1
        assert "nowhere" in result.stderr


def test_a_hung_child_does_not_hold_up_the_stop(tmp_path):
    product = Product(tmp_path / "data").start()
    family = psutil.Process(product._process.pid).children(recursive=True)
    for name in ("api", "worker", "runner", "envoy"):
        os.kill(product.children()[name], signal.SIGSTOP)
    began = time.monotonic()
    assert product.stop() == 0
    assert time.monotonic() - began < 15
    assert [process for process in family if process.is_running()] == []
