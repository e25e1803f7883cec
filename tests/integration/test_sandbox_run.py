"""One command in a box, to its end: what builds of hostile sources use."""

import os
import threading
import time
from pathlib import Path

import pytest

from builder.sandbox import run as sandbox_run
from builder.sandbox.run import Boxed, run_boxed


def _works() -> bool:
    return run_boxed(Boxed(command=["/bin/true"], timeout_s=30), lambda _: None).exit_code == 0


pytestmark = pytest.mark.skipif(not _works(), reason="no sandbox on this machine")


def run(script: str, **changes: object) -> tuple[int, str, list[str]]:
    lines: list[str] = []
    outcome = run_boxed(Boxed(**{"command": ["/bin/sh", "-c", script], "timeout_s": 20, **changes}), lines.append)
    return outcome.exit_code, outcome.reason, lines


def test_output_and_code_come_back() -> None:
    assert run("echo one; echo two >&2; printf three; exit 7") == (7, "exited", ["one", "two", "three"])
    assert run("kill -9 $$")[0] == 137


def test_folders_are_as_named_and_nothing_else_is_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "source").write_text("x")
    tmp_path.chmod(0o700)
    code, _, lines = run(
        f"cat /in/source; echo y > /out/made; touch /in/x; touch /usr/x; ls {tmp_path}; id -u; ls /root/.ssh",
        read_only={"/in": tmp_path / "in"}, writable={"/out": tmp_path / "out"},
    )  # fmt: skip
    assert lines[0].startswith("x")
    assert "1000" in lines
    assert sum("Read-only file system" in line for line in lines) == 2
    assert sum("No such file or directory" in line for line in lines) == 2
    assert code != 0
    made = tmp_path / "out" / "made"
    assert made.read_text() == "y\n"
    assert made.stat().st_uid == os.geteuid()


def test_the_environment_is_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_ADMIN_TOKEN", "hush")
    _, _, lines = run("env", environment={"MINE": "a b"})
    names = {line.partition("=")[0] for line in lines}
    assert "MINE=a b" in lines
    assert names == {"PATH", "HOME", "LANG", "MINE", "PWD"}


def test_there_is_no_network_unless_a_way_out_is_given(tmp_path: Path) -> None:
    _, _, lines = run("env | grep -ci proxy; ls /sys/class/net /run/egress 2>&1")
    assert lines[0] == "0"
    _, _, lines = run("env | grep -ci proxy; ls -d /run/egress", egress=tmp_path)
    assert lines == ["6", "/run/egress"]


def test_time_and_memory_are_bounded() -> None:
    started = time.monotonic()
    assert run("sleep 60", timeout_s=0.5)[1] == "timeout"
    assert time.monotonic() - started < 10
    hog = "import time\nhoard = []\nwhile True: hoard.append(b'x' * (8 << 20)); time.sleep(.01)"
    code, reason, _ = run(f'exec /usr/bin/env python3 -c "{hog}"', memory_mb=120)
    if code != 127:
        assert reason == "memory-limit"


FILL = """
import os, time
def fill(fd):
    for _ in range(50):
        os.write(fd, b"x" * (8 << 20)); time.sleep(.05)
    time.sleep(20)
"""
PYTHON = "/usr/bin/python3"
needs_python = pytest.mark.skipif(not Path(PYTHON).exists(), reason="no Python of the system")


@needs_python
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("place", ["/tmp", "/home/user"])
def test_files_in_memory_count_as_memory(place: str, grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not grouped:
        monkeypatch.setattr(sandbox_run, "_groups", lambda: None)
    elif sandbox_run._groups() is None:
        pytest.skip("no groups can be made here")
    code = FILL + f"fill(os.open('{place}/x', os.O_CREAT | os.O_WRONLY))"
    assert run("", command=[PYTHON, "-c", code], memory_mb=120)[1] == "memory-limit"


@needs_python
@pytest.mark.parametrize("what", ["os.memfd_create('x')", "os.open('/dev/shm/x', os.O_CREAT | os.O_WRONLY)"])
def test_memory_without_a_name_is_bounded_by_the_kernel(what: str) -> None:
    if sandbox_run._groups() is None:
        pytest.skip("no groups can be made here")
    _, reason, _ = run("", command=[PYTHON, "-c", FILL + f"fill({what})"], memory_mb=60)
    assert reason == "memory-limit"
    groups = sandbox_run._groups()
    assert groups is not None
    assert not [name for name in groups.names() if name.startswith(f"{os.getpid()}-")]


def test_no_place_without_a_size_can_be_written_to() -> None:
    _, _, lines = run("for d in / /dev /run /opt; do echo x > $d/junk; done; ls /dev/junk")
    assert sum("cannot create" in line for line in lines) == 4
    command = "echo x > /dev/shm/a && echo x > /dev/null && cat /dev/shm/a; head -c 100000000 /dev/zero > /dev/shm/b"
    _, _, lines = run(command)
    assert lines[0] == "x"
    assert "No space left" in lines[-1]


@needs_python
def test_one_file_is_bounded(tmp_path: Path) -> None:
    code = "import os\nfd = os.open('/out/x', os.O_CREAT | os.O_WRONLY)\nos.posix_fallocate(fd, 0, 100 << 20)"
    _, _, lines = run(
        "", command=[PYTHON, "-c", code], writable={"/out": tmp_path}, file_bytes_max=50 << 20
    )  # fmt: skip
    assert "File too large" in lines[-1]
    assert (tmp_path / "x").stat().st_blocks * 512 <= 50 << 20


def test_forks_are_bounded() -> None:
    _, _, lines = run("for i in $(seq 100); do sleep 5 & done; wait", processes_max=20, timeout_s=2)
    assert any("fork" in line.lower() for line in lines)


def test_it_can_be_cancelled_and_leaves_nothing() -> None:
    cancelled = threading.Event()
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        cancelled.set()

    boxed = Boxed(command=["/bin/sh", "-c", "sleep 61.25 & setsid sleep 61.25 & echo begun; wait"], timeout_s=30)
    outcome = run_boxed(boxed, on_line, cancelled=cancelled.is_set)
    assert outcome.reason == "cancelled"
    assert not any(b"61.25" in _cmdline(entry) for entry in Path("/proc").glob("[0-9]*"))


def _cmdline(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_command_that_is_missing_is_told() -> None:
    lines: list[str] = []
    outcome = run_boxed(Boxed(command=["/no/such"], timeout_s=20), lines.append)
    assert outcome.exit_code == 127
    assert "No such file" in lines[-1]


def test_without_a_sandbox_places_are_those_of_the_machine(tmp_path: Path) -> None:
    lines: list[str] = []
    boxed = Boxed(
        command=["/bin/sh", "-c", "pwd; echo x > /out/made"], writable={"/out": tmp_path}, workdir="/out", timeout_s=20
    )
    assert run_boxed(boxed, lines.append, sandbox="none").exit_code == 0
    assert lines == [str(tmp_path)]
    assert (tmp_path / "made").exists()
