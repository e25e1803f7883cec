"""Decisions of the commands that need no installation: names, credentials, what is shown, how they end."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import common, follow, push, spaces
from orchestrator.cli.main import app
from orchestrator.client.hub import NotReachable
from orchestrator.client.push import sdk_of
from orchestrator.errors import Invalid, Refused, Unavailable

RUN = CliRunner()


@pytest.mark.parametrize(("folder", "name"), [("my app", "my-app"), ("-x-", "x"), ("a.b_c", "a.b_c"), ("ü!", None)])
def test_a_space_is_named_after_its_folder(folder, name):
    if name is None:
        with pytest.raises(Invalid, match="--name"):
            push.name_from(Path("/tmp") / folder)
    else:
        assert push.name_from(Path("/tmp") / folder) == name


@pytest.mark.parametrize(
    ("files", "sdk"),
    [
        ({"README.md": "---\ntitle: x\nsdk: streamlit # note\n---\nsdk: gradio"}, "streamlit"),
        ({"README.md": "no front matter\nsdk: static"}, "gradio"),
        ({"README.md": "---\nsdk: [gradio\n---\n", "index.html": ""}, "static"),
        ({"README.md": "---\nsdk: 'asgi'\n"}, "asgi"),
        ({"index.html": ""}, "static"),
        ({"index.html": "", "app.py": "import streamlit"}, "streamlit"),
        ({"app.py": "from fastapi import FastAPI"}, "asgi"),
        ({"Dockerfile": "FROM x"}, "docker"),
        ({}, "gradio"),
    ],
)
def test_the_sdk_is_read_from_the_files(tmp_path, files, sdk):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert sdk_of(tmp_path) == sdk


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"DORMOUSE_DATA": str(tmp_path), **more}


def test_address_and_token_come_from_options_first(tmp_path):
    given = environ(tmp_path, DORMOUSE_URL="http://one", HF_ENDPOINT="http://two", DORMOUSE_TOKEN="t1", HF_TOKEN="t2")
    hub = common.choose("http://zero", "t0", given)
    assert (hub.url, hub.token) == ("http://zero", "t0")
    hub = common.choose("", "", given)
    assert (hub.url, hub.token) == ("http://one", "t1")
    hub = common.choose("", "", environ(tmp_path, HF_ENDPOINT="http://two", HF_TOKEN="t2"))
    assert (hub.url, hub.token) == ("http://two", "t2")


def test_a_token_for_elsewhere_is_not_sent_to_this_machine(tmp_path):
    with pytest.raises(NotReachable):
        common.choose("", "", environ(tmp_path, HF_TOKEN="hf_of_somewhere_else"))


def test_nothing_running_is_exit_status_3(tmp_path):
    result = RUN.invoke(app, ["ls"], env=environ(tmp_path))
    assert result.exit_code == 3
    assert "dormouse up" in result.stderr
    assert result.stdout == ""


def test_a_refusal_is_exit_status_1_and_one_sentence(tmp_path):
    result = RUN.invoke(app, ["ls"], env=environ(tmp_path, DORMOUSE_PORT="0", DORMOUSE_EGRESS="maybe"))
    assert result.exit_code == 1
    assert "DORMOUSE_EGRESS" in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_usage_is_exit_status_2():
    assert RUN.invoke(app, ["push"]).exit_code == 2
    assert RUN.invoke(app, ["frobnicate"]).exit_code == 2


def test_every_command_explains_itself():
    help_text = RUN.invoke(app, ["--help"]).stdout
    for name in ("up", "push", "ls", "logs", "sleep", "wake", "open", "users", "doctor"):
        assert f"  {name} " in help_text
        assert RUN.invoke(app, [name, "--help"]).exit_code == 0


def test_the_list_shows_what_clients_know():
    info = {"id": "a/b", "runtime": {"stage": "SLEEPING"}, "sdk": None, "private": True, "host": "http://a-b.localhost"}
    row = spaces.row_of(info)
    assert (row["stage"], row["sdk"], row["private"]) == ("SLEEPING", "", True)


@pytest.mark.parametrize(
    ("lines", "wanted", "skipped", "kept"), [("abcde", 2, 3, "de"), ("ab", 5, 0, "ab"), ("", 3, 0, "")]
)
def test_the_last_lines_of_a_log(lines, wanted, skipped, kept):
    assert spaces.kept_of(lines, wanted) == (skipped, spaces.deque(kept))


@pytest.mark.parametrize(
    ("environment", "platform", "seen"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "w"}, "linux", True),
        ({}, "darwin", True),
    ],
)
def test_a_browser_is_opened_where_one_can_be_seen(environment, platform, seen):
    assert spaces.has_display(environment, platform) is seen


def steps(*stages: object):
    given = iter(stages)

    def look():
        stage = next(given)
        if isinstance(stage, Exception):
            raise stage
        return {"stage": stage, "phase": stage, "message": "why", "page": "http://page"}

    return look


def test_following_ends_where_the_stage_settles(monkeypatch):
    monkeypatch.setattr(follow, "POLL_S", 0)
    shown: list[str] = []
    look = steps("BUILDING", "RUNNING_BUILDING", Unavailable("away"), "APP_STARTING", "RUNNING", "never asked")
    assert follow.until_settled(look, lambda status: shown.append(status["stage"]))["stage"] == "RUNNING"
    assert shown == ["BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING"]


def test_following_gives_up_at_its_limit(monkeypatch):
    monkeypatch.setattr(follow, "POLL_S", 0)
    with pytest.raises(Unavailable, match="still not running"):
        follow.until_settled(lambda: {"stage": "BUILDING"}, lambda _status: None, limit_s=0.01)


def test_an_app_that_does_not_run_is_refused_with_the_reason_and_the_page():
    class Fake:
        def status(self, _name: str) -> dict[str, str]:
            return {"stage": "BUILD_ERROR", "phase": "build error", "message": "no such package", "page": "http://page"}

    with pytest.raises(Refused, match=r"BUILD_ERROR.*no such package(.|\n)*http://page"):
        follow.follow(Fake(), "a/b")
