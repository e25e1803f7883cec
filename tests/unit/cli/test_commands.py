"""Decisions of the commands that need no installation: names, credentials, what is shown, how they end."""

import contextlib
import io
import json
import stat
import time
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from orchestrator.cli import common, doctor, follow, life, push, spaces, variables
from orchestrator.cli.main import app
from orchestrator.client import local
from orchestrator.client.hub import Hub, NotReachable
from orchestrator.client.push import sdk_of
from orchestrator.errors import Invalid, Refused, Unavailable
from orchestrator.settings import Settings

RUN = CliRunner()
LIFE = ("sleep", "wake", "restart", "pause", "rm")


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
    help_text = RUN.invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    assert "..." not in help_text.partition("Commands:")[2], "a help text is cut"
    for name in (*LIFE, "up", "push", "ls", "logs", "open", "users", "doctor", "vars", "secrets"):
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


class FakeHub:
    """A Space in one stage, with a log."""

    def __init__(self, stage: str, log: tuple[str, ...] = ()) -> None:
        self.stage, self.log = stage, log

    def status(self, _name: str) -> dict[str, str]:
        page, url = "http://page", "http://app"
        return {"stage": self.stage, "phase": "x", "message": "no such package", "page": page, "url": url}

    @contextlib.contextmanager
    def logs(self, _name: str, kind: str, *, follow: bool):
        assert not follow
        yield iter(f"{kind} {line}" for line in self.log)


def plain_console() -> Console:
    return Console(file=io.StringIO(), soft_wrap=True, highlight=False)


@pytest.mark.parametrize(("stage", "kind"), [("BUILD_ERROR", "build"), ("RUNTIME_ERROR", "run"), ("CONFIG_ERROR", "")])
def test_an_app_that_does_not_run_is_refused_with_the_end_of_its_log_the_reason_and_the_page(stage, kind):
    console = plain_console()
    log = (*(f"line {number}" for number in range(30)), "\x1b[31mred\x07")
    with pytest.raises(Refused, match=rf"{stage}.*no such package(.|\n)*http://page"):
        follow.follow(FakeHub(stage, log), "a/b", console=console)
    shown = console.file.getvalue()
    expected = [f"  | {kind} line {number}" for number in range(11, 30)] + [f"  | {kind} red"]
    assert shown.splitlines()[1:] == (expected if kind else [])


@pytest.mark.parametrize("stage", ["RUNNING", "SLEEPING"])
def test_an_app_that_runs_or_sleeps_is_fine(stage):
    assert follow.follow(FakeHub(stage), "a/b", console=plain_console())["url"] == "http://app"


def phases_of(*timeline: tuple[float, str]) -> list[str]:
    """What is printed where the status says these phases at these seconds."""
    now = 0.0
    console = plain_console()
    with follow.Phases(console, clock=lambda: now) as phases:
        for at, phase in timeline:
            now = at
            phases.show({"stage": "RUNNING" if phase == "running" else "BUILDING", "phase": phase})
    return console.file.getvalue().splitlines()


def test_phases_are_told_in_the_words_of_the_pages_and_brief_ones_not_at_all():
    seen = [(0, "queued"), (0.3, "fetch"), (0.6, "detect"), (0.9, "install"), (1.5, "install"), (2.0, "install")]
    assert phases_of(*seen, (4.0, "snapshot"), (4.3, "running")) == ["Installing packages ..."]


def test_phases_do_not_go_back_unless_they_stay_back():
    seen = [(0, "install"), (2, "install"), (2.3, "queued"), (2.6, "install"), (4, "install")]
    assert phases_of(*seen) == ["Installing packages ..."]
    again = [(5, "queued"), (6.1, "queued"), (6.4, "queued")]
    assert phases_of(*seen, *again) == ["Installing packages ...", "Waiting for a free builder ..."]


def test_an_unchanged_folder_says_where_it_runs(capsys):
    push.say_unchanged(FakeHub("RUNNING"), "a/b")
    assert capsys.readouterr().err == "Nothing has changed; it runs at http://app.\n"


# --- orders, variables ----------------------------------------------------------------------------------------
class Server:
    """Answers like the API and remembers what it was asked."""

    def __init__(self, **answers: object) -> None:
        self.asked: list[tuple[str, str, object]] = []
        self._answers = answers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/spaces/ann/app").strip("/") or "space"
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.method, f"{path}?{request.url.query.decode()}".rstrip("?"), body))
        return httpx.Response(200, json=self._answers.get(path, {}))


@pytest.fixture
def run(monkeypatch):
    def invoke(server: Server, *arguments: str, stdin: str = ""):
        hub = Hub("http://localhost:7878", "t", transport=httpx.MockTransport(server))
        monkeypatch.setattr(common, "choose", lambda *_given: hub)
        return RUN.invoke(app, list(arguments), input=stdin)

    return invoke


@pytest.mark.parametrize(
    ("command", "stage", "asked", "said"),
    [
        (["sleep"], "RUNNING", "sleep", "goes to sleep"),
        (["sleep"], "SLEEPING", "sleep", "is asleep"),
        (["wake"], "RUNNING", "wake", "runs already"),
        (["wake"], "APP_STARTING", "wake", "is waking up"),
        (["restart"], "APP_STARTING", "restart", "is restarted"),
        (["restart", "--factory"], "BUILDING", "restart?factory=true", "built anew"),
        (["pause"], "PAUSED", "pause", "dormouse restart ann/app"),
    ],
)
def test_an_order_says_in_one_line_what_happens(run, command, stage, asked, said):
    server = Server(**{command[0]: {"stage": stage}})
    result = run(server, command[0], "ann/app", *command[1:])
    assert (result.exit_code, result.stdout) == (0, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert server.asked == [("POST", asked, None)]


def test_nothing_is_deleted_without_a_yes(run):
    server = Server(space={"id": "ann/app"})
    result = run(server, "rm", "ann/app")
    assert result.exit_code == 1
    assert "--yes" in result.stderr
    assert run(server, "rm", "ann/app", "--yes").exit_code == 0
    deletes = [asked for asked in server.asked if asked[0] == "DELETE"]
    assert deletes == [("DELETE", "api/repos/delete", {"type": "space", "name": "app", "organization": "ann"})]


def test_secrets_are_set_from_arguments_and_from_standard_input(run):
    server = Server()
    assert run(server, "secrets", "ann/app", "set", "A=1=2", "B", stdin="two\nlines\n").exit_code == 0
    bodies = [{"key": "A", "value": "1=2"}, {"key": "B", "value": "two\nlines"}]
    assert server.asked == [("POST", "secrets", body) for body in bodies]
    assert run(server, "secrets", "ann/app", "set", "A", "B").exit_code == 1
    assert run(server, "secrets", "ann/app", "set").exit_code == 2
    assert run(server, "secrets", "ann/app", "forget", "A").exit_code == 2


def test_variables_are_listed_and_removed(run):
    server = Server(variables={"A": {"key": "A", "value": "1"}})
    assert run(server, "vars", "ann/app").stdout == "A\t1\n"
    assert json.loads(run(server, "vars", "ann/app", "--json").stdout) == [{"key": "A", "value": "1"}]
    assert run(server, "vars", "ann/app", "rm", "A").exit_code == 0
    assert server.asked[-1] == ("DELETE", "variables", {"key": "A"})
    result = run(server, "vars", "ann/app", "rm", "NOT")
    assert result.exit_code == 1
    assert "NOT" in result.stderr
    assert server.asked[-1][0] == "GET"


def test_only_one_value_is_read():
    assert variables.pairs_of(["A=", "B=x"]) == [("A", ""), ("B", "x")]
    with pytest.raises(Invalid, match="KEY=VALUE"):
        variables.pairs_of(["A", "B"])


def test_waiting_for_sleep_ends_where_it_does_not_come():
    with pytest.raises(Refused, match="PAUSED"):
        life.until_asleep(FakeHub("PAUSED"), "a/b")
    with pytest.raises(Unavailable, match="still awake"):
        life.until_asleep(FakeHub("RUNNING"), "a/b", limit_s=-1)


@pytest.mark.parametrize(("sdk", "said"), [("static", "is static"), ("gradio", "is empty")])
def test_a_log_without_lines_says_so_beside_the_output(run, sdk, said):
    result = run(Server(space={"sdk": sdk}), "logs", "ann/app")
    assert (result.exit_code, result.stdout) == (0, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain [red]text[/red] \tä 🐭", "plain [red]text[/red] \tä 🐭"),
        ("\x1b[1;31mred\x1b[0m \x9b2Jgone", "red gone"),
        ("\x1b]0;a title\x07a\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("\x1bPsecret\x1b\\b\x1bc\x1b(0c\x1b", "bc"),
        ("10%\r20%\x07\x08\u202ex\x00", "10% 20%x"),
    ],
)
def test_what_an_app_writes_never_drives_the_terminal(written, shown, capsys):
    assert spaces.print_lines([written]) == 1
    push.show_line(f"remote: {written}")
    captured = capsys.readouterr()
    assert captured.out == f"{shown}\n"
    assert captured.err.startswith("remote: ")
    assert all(char.isprintable() or char in "\t\n" for char in captured.err)


# --- the token of this machine --------------------------------------------------------------------------------
@pytest.fixture
def installation(tmp_path, monkeypatch):
    """The internal socket's answers; a list of the tokens that were made."""
    made: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/internal/healthz":
            return httpx.Response(200, json={})
        made.append(f"hf_{len(made)}")
        return httpx.Response(200, json={"token": made[-1]})

    def client(_run):
        return httpx.Client(transport=httpx.MockTransport(answer), base_url="http://dormouse")

    monkeypatch.setattr(local, "internal_client", client)
    settings = Settings(data=tmp_path)
    settings.run.mkdir()
    return settings, made


def test_one_token_serves_many_commands(installation):
    settings, made = installation
    assert {local.local_token(settings) for _ in range(3)} == {"hf_0"}
    (kept,) = settings.run.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert local.local_token(settings, fresh=True) == "hf_1"
    monkey = json.loads(kept.read_text()) | {"at": time.time() - 3000}
    kept.write_text(json.dumps(monkey))
    assert local.local_token(settings) == "hf_2"
    kept.write_text("{")
    assert local.local_token(settings) == "hf_3"
    assert len(made) == 4


def test_a_kept_token_that_was_revoked_is_replaced(installation):
    settings, _made = installation
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(401 if seen[-1].endswith("hf_old") else 200, json={"name": "admin"})

    renew = lambda: local.local_token(settings, fresh=True)  # noqa: E731
    hub = Hub("http://localhost", "hf_old", renew=renew, transport=httpx.MockTransport(answer))
    assert hub.user == "admin"
    assert (hub.token, seen) == ("hf_0", ["Bearer hf_old", "Bearer hf_0"])


def test_the_kept_token_is_not_sent_where_nothing_of_ours_runs(tmp_path):
    (tmp_path / "run").mkdir()
    local._keep_token(tmp_path / "run", "hf_kept")
    with pytest.raises(NotReachable):
        local.local_token(Settings(data=tmp_path))


def test_pages_have_the_public_address():
    status = {"stage": "RUNNING", "page": "http://127.0.0.1:7878/spaces/a/b"}
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=status))
    hub = Hub("http://127.0.0.1:7878", "t", public_url="http://localhost:7878", transport=transport)
    assert hub.status("a/b")["page"] == "http://localhost:7878/spaces/a/b"


@pytest.mark.parametrize(
    ("said", "state", "value"),
    [
        ("on", "ok", "on"),
        ("on: apps reach nothing outside", "ok", "on"),
        ("on, without a view of its own: x", "warning", "on"),
        ("off by DORMOUSE_EGRESS=host: x", "warning", "off"),
        ("not available, so no app is started", "warning", "off"),
        ("by a watchdog that looks each second", "warning", "weaker"),
        ("shared: every app has your user id", "warning", "weaker"),
    ],
)
def test_what_is_weaker_is_not_called_off(said, state, value):
    features = {"level": "full", "name": "process", "features": {"memory": said}}
    found = list(doctor._told(features))[1]
    assert (found.name, found.state, found.value) == ("isolation memory", state, value)
