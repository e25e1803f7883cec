"""How PID 1 keeps the app's log."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "runtime-images" / "common"))
from pid1.applog import BURST_LINES, LINE_BYTES_MAX, Allowance, AppLog


class Pipes:
    """An app's output and the log made of it."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.target = os.memfd_create("log")
        self.log = AppLog(self.read, self.target)

    def say(self, data: bytes) -> None:
        os.write(self.write, data)
        self.log.pump()

    def lines(self) -> list[str]:
        size = os.fstat(self.target).st_size
        return [json.loads(line)["m"] for line in os.pread(self.target, size, 0).decode().splitlines()]


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    made = Pipes()
    yield made
    for fd in (made.read, made.write, made.target):
        os.close(fd)


def test_lines_are_put_together(pipes: Pipes) -> None:
    pipes.say(b"one\ntw")
    assert pipes.lines() == ["one"]
    pipes.say(b"o\r\nthree")
    pipes.log.finish()
    assert pipes.lines() == ["one", "two", "three"]


def test_any_bytes_make_valid_lines(pipes: Pipes) -> None:
    pipes.say(bytes(range(256)) + b'"\\\n\n\xf0\x9f\x98\x80\n')
    assert pipes.lines()[-1] == "\U0001f600"
    assert "" in pipes.lines()


def test_a_progress_bar_is_its_last_state(pipes: Pipes) -> None:
    for percent in range(100):
        pipes.say(b"\r%d%% " % percent + b"#" * 500)
    pipes.say(b"\rdone\n")
    assert pipes.lines() == ["done"]


def test_a_line_without_end_is_cut(pipes: Pipes) -> None:
    for _ in range(100):
        pipes.say(b"x" * 5000)
    pipes.say(b"\nnext\n")
    assert pipes.lines() == ["x" * LINE_BYTES_MAX + " ... (cut)", "next"]


def test_too_many_lines_are_counted(pipes: Pipes) -> None:
    pipes.say(b"\n" * (BURST_LINES + 1000))
    pipes.log.finish()
    assert BURST_LINES <= len(pipes.lines()) < BURST_LINES + 500
    assert "lines dropped" in pipes.lines()[-1]


def test_the_allowance_comes_back() -> None:
    allowance = Allowance(0.0)
    while allowance.take(10, 0.0):
        pass
    assert not allowance.take(10, 0.001)
    assert allowance.take(10, 1.0)
    assert not Allowance(0.0).take(1 << 30, 1000.0)
