"""Runs one command for a build: a process group of its own, bounded output, an end for every case.

The kernel kills the command when the worker's thread ends, so a worker that dies by SIGKILL leaves nothing running.
Commands get exactly the environment they are given: the worker's own holds the installation's settings.
"""

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from builder.adapters.control import Control, kill_group
from builder.sandbox.syscalls import signal_when_parent_ends

LINE_MAX = 4096
OUTPUT_MAX = 64 << 20
_CHUNK = 65536

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    code: int
    out: bytes
    err: str
    """The last part of what it wrote to standard error."""


class OutputTooLarge(Exception):
    """The command wrote more to standard output than is wanted."""


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | str = "/",
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    memory_max: int = 0,
) -> "subprocess.Popen[bytes]":
    """Start it with pipes for its output. The caller puts it under `Control.watching`."""
    return subprocess.Popen(
        [str(part) for part in argv],
        env=dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        preexec_fn=_prepare(os.getpid(), memory_max),  # noqa: PLW1509 - only system calls, prepared before the fork
    )


def run(
    argv: Sequence[str],
    *,
    control: Control,
    env: Mapping[str, str],
    cwd: Path | str = "/",
    text: bytes = b"",
    on_line: OnLine | None = None,
    output_max: int = OUTPUT_MAX,
    memory_max: int = 0,
    timeout_s: float = 0.0,
) -> Finished:
    """Run to the end; `on_line` sees standard error line by line. Raises the build's reason to stop, or
    OutputTooLarge. `text` is its standard input. With `timeout_s` it may end early, by a signal."""
    with tempfile.TemporaryFile() as stdin:
        stdin.write(text)
        stdin.seek(0)
        process = start(argv, env=env, cwd=cwd, stdin=stdin, memory_max=memory_max)
    with control.watching(process), _ended_after(process, timeout_s):
        out, err = _collect(process, on_line or _ignore, output_max)
        code = process.wait()
    control.check()
    return Finished(code, out, err)


@contextlib.contextmanager
def _ended_after(process: "subprocess.Popen[bytes]", timeout_s: float) -> Iterator[None]:
    timer = threading.Timer(timeout_s, kill_group, [process])
    timer.daemon = True
    if timeout_s:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _prepare(parent: int, memory_max: int) -> Callable[[], None]:
    def child() -> None:
        if sys.platform == "linux":
            signal_when_parent_ends(signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # The worker died before the line above took effect.
        if memory_max:
            resource.setrlimit(resource.RLIMIT_AS, (memory_max, memory_max))

    return child


def _ignore(line: str) -> None:
    del line


def _collect(process: "subprocess.Popen[bytes]", on_line: OnLine, output_max: int) -> tuple[bytes, str]:
    assert process.stdout
    assert process.stderr
    out, lines = bytearray(), _Lines(on_line)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, data="out")
        selector.register(process.stderr, selectors.EVENT_READ, data="err")
        while selector.get_map():
            for key, _ in selector.select():
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.data == "err":
                    lines.feed(chunk)
                else:
                    out += chunk
                    if len(out) > output_max:
                        raise OutputTooLarge
    process.stdout.close()
    process.stderr.close()
    return bytes(out), lines.end()


class _Lines:
    """Splits a stream into lines, whatever its bytes are, and remembers its end."""

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self._rest = b""
        self._tail: list[str] = []

    def feed(self, chunk: bytes) -> None:
        *whole, self._rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            self._emit(line)
        if len(self._rest) > LINE_MAX:
            self._emit(self._rest)
            self._rest = b""

    def end(self) -> str:
        if self._rest:
            self._emit(self._rest)
        return "\n".join(self._tail)

    def _emit(self, raw: bytes) -> None:
        line = raw[:LINE_MAX].decode("utf-8", "replace").rstrip()
        if line:
            self._on_line(line)
            self._tail = [*self._tail[-199:], line]
