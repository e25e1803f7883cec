"""The supervisor's promises about its children, with small stand-ins for them and real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

DRIVER = Path(__file__).with_name("supervisor_driver.py")
IDLE = "import time; time.sleep(600)"
LIMIT_S = 20.0


def wait_for(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> object:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {limit_s} s: {what}")


class Driver:
    def __init__(self, folder: Path, children: list[dict]) -> None:
        self.folder = folder
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        with self.out.open("w") as out, self.err.open("w") as err:
            command = [sys.executable, str(DRIVER), str(folder), json.dumps(children)]
            self.process = subprocess.Popen(command, stdout=out, stderr=err)
        self.seen: dict[int, psutil.Process] = {}

    def wait_ready(self) -> None:
        wait_for(lambda: "ready\n" in [*self.out.read_text().splitlines(keepends=True)], "all children ready")
        self.note_descendants()

    def note_descendants(self) -> None:
        for process in psutil.Process(self.process.pid).children(recursive=True):
            self.seen[process.pid] = process

    def state(self, name: str) -> dict:
        try:
            children = json.loads((self.folder / "run" / "children.json").read_text())["children"]
        except (OSError, ValueError):
            return {}
        return next(child for child in children if child["name"] == name)

    def alive(self) -> list[psutil.Process]:
        return [p for p in self.seen.values() if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def stop(self) -> float:
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LIMIT_S)
        return time.monotonic() - began


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def make(*children: dict) -> Driver:
        drivers.append(Driver(tmp_path, list(children)))
        return drivers[-1]

    yield make
    for driver in drivers:
        if driver.process.poll() is None:
            driver.process.kill()
        driver.process.wait()
        for process in driver.alive():
            process.kill()


def child(name: str, code: str = IDLE, **rest: object) -> dict:
    return {"name": name, "code": code, **rest}


def test_a_child_waits_for_those_it_needs(start):
    driver = start(child("first", ready_file="open"), child("second", after=["first"]))
    wait_for(lambda: driver.state("first").get("pid"), "first started")
    assert driver.state("second")["pid"] is None
    (driver.folder / "run" / "open").touch()
    driver.wait_ready()
    assert driver.out.read_text().splitlines() == ["ready first", "ready second", "ready"]
    assert driver.state("second")["pid"]


def test_a_killed_child_comes_back_and_the_log_says_why(start):
    driver = start(child("steady"), child("victim"))
    driver.wait_ready()
    before, neighbour = driver.state("victim")["pid"], driver.state("steady")["pid"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: driver.state("victim").get("pid") not in (None, before), "a new process")
    assert driver.state("victim")["restarts"] == 1
    assert driver.state("steady")["pid"] == neighbour
    lines = [line for line in driver.err.read_text().splitlines() if "child_ended" in line]
    assert len(lines) == 1
    assert "child=victim" in lines[0]
    assert "SIGKILL" in lines[0]


def test_a_child_that_keeps_ending_is_started_less_and_less_often(start):
    driver = start(child("steady"), child("hopeless", "raise SystemExit(3)"))
    wait_for(lambda: driver.state("hopeless").get("restarts", 0) >= 4, "four restarts")
    pauses = [
        float(line.partition("again_in_s=")[2].split()[0])
        for line in driver.err.read_text().splitlines()
        if "child_ended" in line
    ]
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert "exit status 3" in driver.err.read_text()
    assert driver.process.poll() is None


def test_stopping_goes_stage_by_stage(start):
    told = "import signal,sys,time\nsignal.signal(15, lambda *_: (print('bye %s', flush=True), sys.exit()))\n"
    code = told + "open('up-%s','w').close()\ntime.sleep(600)"
    names = (("last", 2), ("first", 0), ("middle", 1))
    driver = start(*(child(n, code % (n, n), stop_stage=stage, ready_file=f"up-{n}") for n, stage in names))
    driver.wait_ready()
    driver.stop()
    order = [line.split("bye ")[1] for line in driver.err.read_text().splitlines() if "bye " in line]
    assert order == ["first", "middle", "last"]
    assert driver.process.returncode == 0


STUBBORN = (
    "import os, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "subprocess.Popen([sys.executable, '-c', 'import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'],"
    " start_new_session=True)\n"
    "open('stubborn', 'w').close()\n"
    "time.sleep(600)\n"
)


def test_nothing_is_left_however_stubborn(start):
    driver = start(child("stubborn", STUBBORN, ready_file="stubborn"), child("meek"))
    driver.wait_ready()
    assert len(driver.alive()) == 3
    took_s = driver.stop()
    assert driver.process.returncode == 0
    assert driver.alive() == []
    assert took_s < 6
    assert not (driver.folder / "run" / "children.json").exists()


def test_a_second_signal_hurries(start):
    driver = start(child("stubborn", STUBBORN, ready_file="stubborn", stop_grace_s=60))
    driver.wait_ready()
    began = time.monotonic()
    driver.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    driver.process.send_signal(signal.SIGTERM)
    driver.process.wait(LIMIT_S)
    assert time.monotonic() - began < 4
    assert driver.alive() == []


@pytest.mark.skipif(sys.platform != "linux", reason="death signals are a feature of Linux")
def test_a_killed_supervisor_takes_its_children_along(start):
    driver = start(child("one"), child("two", survivors=True))
    driver.wait_ready()
    driver.process.kill()
    driver.process.wait()
    wait_for(lambda: driver.alive() == [], "all children gone")


FORKING = (
    "import subprocess, sys, time\n"
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open('app-' + sys.argv[0].strip('-c') + NAME, 'w').write(str(p.pid))\n"
    "time.sleep(600)\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are inherited on Linux only")
@pytest.mark.parametrize("survivors", [True, False])
def test_only_a_runner_leaves_survivors_on_its_crash(start, survivors):
    driver = start(child("holder", f"NAME='x'\n{FORKING}", ready_file="app-x", survivors=survivors))
    driver.wait_ready()
    app = int((driver.folder / "run" / "app-x").read_text())
    before = driver.state("holder")["pid"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: driver.state("holder").get("pid") not in (None, before), "a new holder")
    gone = lambda: not psutil.pid_exists(app) or psutil.Process(app).status() == psutil.STATUS_ZOMBIE  # noqa: E731
    if survivors:
        assert not gone()
    else:
        wait_for(gone, "the group of the dead child is gone")
    driver.note_descendants()
    driver.stop()
    assert gone()
    assert driver.alive() == []


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are inherited on Linux only")
def test_inherited_dead_are_collected(start):
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    pid = os.fork()\n"
        "    if pid == 0: time.sleep(0.3); os._exit(0)\n"
        "    open('orphan', 'w').write(str(pid)); os._exit(0)\n"
        "os.wait(); time.sleep(600)\n"
    )
    driver = start(child("forgetful", code, ready_file="orphan"))
    driver.wait_ready()
    orphan = int((driver.folder / "run" / "orphan").read_text() or 0)
    wait_for(lambda: not psutil.pid_exists(orphan), "the orphan was collected")


def test_lines_of_children_are_shown_with_their_name(start):
    code = (
        "import json\n"
        "print(json.dumps({'event': 'thing_done', 'level': 'info', 'size': 3}), flush=True)\n"
        "print('plain \\x1b[31mtext\\x1b[0m', flush=True)\n"
        "print('y' * 3_000_000, flush=True)\n"
        "open('said', 'w').close()\n"
        "import time; time.sleep(600)"
    )
    driver = start(child("speaker", code, ready_file="said"))
    driver.wait_ready()
    wait_for(lambda: "yyy" in driver.err.read_text(), "the long line")
    lines = driver.err.read_text().splitlines()
    assert any("speaker" in line and "thing_done size=3" in line for line in lines)
    assert any("speaker" in line and line.endswith("plain text") for line in lines)
    assert max(len(line) for line in lines) < 20_000
