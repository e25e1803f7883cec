"""Stopping a build and its commands; sending what happened in order."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from builder.adapters.control import Control, PhaseTimeout, ShuttingDown, Superseded
from builder.adapters.process import OutputTooLarge, run
from builder.adapters.reporter import Reporter
from builder.contract import CONTRACT_VERSION, BuildOrder, BuildResult, Phase

ENV = {"PATH": "/usr/bin:/bin"}
ORDER = BuildOrder(
    version=CONTRACT_VERSION,
    build_id="b1",
    space_id="s1",
    space="ann/x",
    owner_id="o1",
    sha="0" * 40,
    repository_url="http://127.0.0.1/x",
    token="secret",
)


class Api:
    """Answers by a function and remembers what was sent."""

    def __init__(self, answer: Callable[[str, int], int] = lambda what, number: 204) -> None:
        self._answer = answer
        self.sent: list[tuple[str, Any]] = []
        self.asked: list[str] = []

    def post(self, order: BuildOrder, what: str, body: object, worker: str = "") -> int:
        self.asked.append(what)
        status = self._answer(what, self.asked.count(what))
        if status == 204:
            self.sent.append((what, body))
        return status


def reporter(api: Api, control: Control, **more: Any) -> Reporter:
    settings = {"worker": "w", "lease_s": 0.3, "log_bytes_max": 10_000, **more}
    return Reporter(api, ORDER, control, **settings)  # type: ignore[arg-type]


def lines(api: Api) -> list[str]:
    return [text for what, body in api.sent if what == "log" for _, text in body["lines"]]


def test_phases_and_lines_arrive_in_order_and_before_the_result() -> None:
    api, control = Api(), Control()
    report = reporter(api, control)
    with report.running():
        report.line("one\ntwo")
        report.phase(Phase.FETCH)
        for number in range(1200):
            report.line(str(number))
        assert report.result(BuildResult(), for_s=5)
    kinds = [what for what, _ in api.sent if what != "lease"]
    assert kinds[:2] == ["log", "phase"]
    assert kinds[-1] == "result"
    assert lines(api)[:4] == ["one", "two", "0", "1"]
    firsts = [body["first"] for what, body in api.sent if what == "log"]
    counts = [len(body["lines"]) for what, body in api.sent if what == "log"]
    assert firsts == [sum(counts[:n]) for n in range(len(counts))]
    assert max(counts) <= 500


def test_reports_are_repeated_while_the_api_is_away() -> None:
    api, control = Api(lambda what, number: 503 if number < 3 else 204), Control()
    report = reporter(api, control)
    with report.running():
        report.line("x")
        assert report.result(BuildResult(), for_s=5)
    assert lines(api) == ["x"]


def test_a_log_past_its_limit_ends_with_a_sentence() -> None:
    api, control = Api(), Control()
    report = reporter(api, control, log_bytes_max=200)
    with report.running():
        for _ in range(50):
            report.line("x" * 20)
    assert 2 < len(lines(api)) < 6
    assert "left out" in lines(api)[-1]


def test_the_lease_is_kept_and_409_stops_the_build() -> None:
    api, control = Api(lambda what, number: 409 if what == "lease" and number > 3 else 204), Control()
    report = reporter(api, control)
    report.take()
    with report.running():
        assert control.stopped.wait(5)
    assert isinstance(control.reason, Superseded)
    assert api.asked.count("lease") == 4
    assert not report.result(BuildResult(), for_s=1)


def test_a_build_that_is_over_is_not_taken() -> None:
    with pytest.raises(Superseded):
        reporter(Api(lambda what, number: 409), Control()).take()


def test_a_command_ends_with_its_whole_group_when_the_build_is_stopped() -> None:
    control = Control()
    threading.Timer(0.3, control.stop, [ShuttingDown("end")]).start()
    started = time.monotonic()
    with pytest.raises(ShuttingDown):
        run(["sh", "-c", "sleep 60 & sleep 60; wait"], control=control, env=ENV)
    assert time.monotonic() - started < 5


def test_a_phase_past_its_limit_names_it() -> None:
    control = Control()
    said = r"install phase took longer than its limit of 0\.2 seconds"
    with pytest.raises(PhaseTimeout, match=said), control.limit("install", 0.2):
        run(["sleep", "60"], control=control, env=ENV)


def test_a_command_may_have_a_limit_of_its_own() -> None:
    assert run(["sleep", "60"], control=Control(), env=ENV, timeout_s=0.2).code == -signal.SIGKILL


def test_output_is_bounded_and_lines_are_split() -> None:
    said: list[str] = []
    done = run(
        ["sh", "-c", "printf 'a\\rb\\nc' >&2; printf out; exit 3"], control=Control(), env=ENV, on_line=said.append
    )
    assert (done.code, done.out, done.err, said) == (3, b"out", "a\nb\nc", ["a", "b", "c"])
    with pytest.raises(OutputTooLarge):
        run(["sh", "-c", "yes"], control=Control(), env=ENV, output_max=10_000)
    run(["sh", "-c", "head -c 100000 /dev/zero >&2"], control=Control(), env=ENV, on_line=said.append)
    assert max(map(len, said)) <= 4096


def test_commands_die_with_the_process_that_started_them() -> None:
    script = (
        "import os, sys, signal\n"
        "from builder.adapters.process import start\n"
        "child = start(['sleep', '600'], env={'PATH': '/usr/bin:/bin'})\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    pid = int(done.stdout)
    end = time.monotonic() + 5
    while time.monotonic() < end and _alive(pid):
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    from pathlib import Path

    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
