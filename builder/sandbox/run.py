"""Runs one command of a repository in a box, to its end: source builds, and whatever else must not see the machine.

The command sees /usr, an interpreter, the folders it is given and nothing else. The box is made by a helper process
(`builder.sandbox.enter`), because root needs a mount namespace of its own for it and the caller must keep its own.
The box ends with the thread that called.

Memory is bounded by the kernel, in a group of the box's own, where groups can be made, and else by looking twice a
second, which does not see everything (`usage`).
"""

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from builder.sandbox import launch
from builder.sandbox.cgroups import Cgroups, find_cgroups
from builder.sandbox.usage import descendants, memory_over

_LINE_BYTES_MAX = 8192
_LOOK_S = 0.5
_GROUPS = "dormouse-builds"


@dataclass(frozen=True, kw_only=True)
class Boxed:
    """One command and all that it may see."""

    command: Sequence[str]
    read_only: Mapping[str, Path] = field(default_factory=dict)
    """Place inside the box -> folder or file of the machine."""
    writable: Mapping[str, Path] = field(default_factory=dict)
    """The same, for what the command may change. The owner on the disk stays the caller."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables besides PATH, HOME and LANG; the proxy's are added where there is a way out."""
    workdir: str = "/home/user"
    environment_folder: Path | None = None
    """A virtual environment whose interpreter is used: its Python's home is shown to the box too."""
    egress: Path | None = None
    """Folder that holds `egress.sock`; None means no network at all."""
    memory_mb: int = 2048
    """All that the box takes: its processes and what it keeps in /tmp, its home folder and shared memory."""
    processes_max: int = 512
    disk_mb: int = 2048
    """Size of /tmp and of the home folder, each; they are held in memory and count as such."""
    file_bytes_max: int = 0
    """Largest file that the command may write; 0 means any."""
    timeout_s: float = 1800.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the command ended."""

    exit_code: int
    reason: str = "exited"
    """exited, timeout, memory-limit or cancelled."""


def plan(boxed: Boxed, join: Sequence[Path] = ()) -> dict[str, Any]:
    """The order for the helper process, as JSON can carry it. `join` are the files of cgroups to write a pid to."""
    return {
        "join": [str(path) for path in join],
        "command": list(boxed.command),
        "read_only": {inside: str(path) for inside, path in boxed.read_only.items()},
        "writable": {inside: str(path) for inside, path in boxed.writable.items()},
        "environment": dict(boxed.environment),
        "workdir": boxed.workdir,
        "environment_folder": str(boxed.environment_folder) if boxed.environment_folder else None,
        "egress": str(boxed.egress) if boxed.egress else None,
        "processes_max": boxed.processes_max,
        "disk_mb": boxed.disk_mb,
        "file_bytes_max": boxed.file_bytes_max,
    }


@lru_cache(maxsize=1)
def _groups() -> Cgroups | None:
    groups, _ = find_cgroups(_GROUPS)
    if groups:
        groups.remove_ended()
    return groups


@dataclass(frozen=True)
class _Group:
    """The kernel's group of one box; without any where none can be made."""

    groups: Cgroups | None = None
    name: str = ""
    join: Sequence[Path] = ()

    @property
    def out_of_memory(self) -> bool:
        return self.groups is not None and self.groups.out_of_memory(self.name)


@contextlib.contextmanager
def _group(boxed: Boxed, sandbox: str) -> Iterator[_Group]:
    groups = None if sandbox == "none" else _groups()
    name = f"{os.getpid()}-{secrets.token_hex(6)}"
    join: Sequence[Path] = ()
    if groups:
        try:
            join = groups.create(name, memory_bytes=boxed.memory_mb << 20, processes=boxed.processes_max)
        except OSError:  # They could be made once, and cannot any more.
            groups.remove(name, wait_s=0.0)
            groups = None
    try:
        yield _Group(groups, name, join)
    finally:
        if groups:
            groups.remove(name, wait_s=2.0)


def _outside(boxed: Boxed, text: str) -> str:
    """`text` with places of the box replaced by those of the machine, for running without a sandbox."""
    places = {**boxed.read_only, **boxed.writable}
    for inside in sorted(places, key=len, reverse=True):
        text = text.replace(inside, str(places[inside]))
    return text


def _start(boxed: Boxed, sandbox: str, join: Sequence[Path]) -> "subprocess.Popen[bytes]":
    if sandbox == "none":
        workdir = Path(_outside(boxed, boxed.workdir))
        return subprocess.Popen(
            [_outside(boxed, part) for part in boxed.command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, cwd=workdir if workdir.is_dir() else None,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}
            | {name: _outside(boxed, value) for name, value in boxed.environment.items()},
        )  # fmt: skip
    order = launch.memory_file("order", json.dumps(plan(boxed, join)).encode())
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "builder.sandbox.enter", str(order)], pass_fds=[order],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(order)


def run_boxed(
    boxed: Boxed,
    on_line: Callable[[str], None],
    *,
    sandbox: str = "auto",
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run the command; blocks until it has ended, or is ended for its time, its memory or because `cancelled()`.

    Each line it prints goes to `on_line`. Where the sandbox does not work the exit code is 125 and the last line says
    why; `sandbox` "none" runs without one, for trusted code only. A command that cannot be found ends with 127.
    """
    with _group(boxed, sandbox) as group:
        process = _start(boxed, sandbox, group.join)
        assert process.stdout
        lines = _Lines(on_line)
        try:
            watched = None if group.groups else boxed.memory_mb << 20
            reason = _follow(process, boxed, lines, cancelled, memory_bytes=watched, files=sandbox != "none")
        finally:
            _end(process)
            lines.finish()
        code = process.returncode
        if reason == "exited" and code and group.out_of_memory:
            reason = "memory-limit"
    return Outcome(exit_code=code if code >= 0 else 128 - code, reason=reason)


def _follow(
    process: "subprocess.Popen[bytes]", boxed: Boxed, lines: "_Lines", cancelled: Callable[[], bool], *,
    memory_bytes: int | None, files: bool,
) -> str:  # fmt: skip
    """Until it has ended or has to be; looks at its memory where `memory_bytes` is given."""
    assert process.stdout
    deadline, look = time.monotonic() + boxed.timeout_s, time.monotonic() + _LOOK_S
    while True:
        if select.select([process.stdout], [], [], _LOOK_S)[0]:
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                process.wait()
                return "exited"
            lines.take(data)
        now = time.monotonic()
        if now < look:
            continue
        look = now + _LOOK_S
        if now > deadline:
            return "timeout"
        if memory_bytes is not None and memory_over(process.pid, memory_bytes, files=files):
            return "memory-limit"
        if cancelled():
            return "cancelled"
        if process.poll() is not None:  # Something else still holds the output; without a sandbox only.
            return "exited"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left. In a box everything ends with its first process."""
    for pid in reversed(list(descendants(process.pid))):
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    process.wait()
    if process.stdout:
        process.stdout.close()


class _Lines:
    """Splits output into lines of a bounded length."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line, self._rest = on_line, b""

    def take(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:_LINE_BYTES_MAX]
        for line in whole:
            self._emit(line)

    def finish(self) -> None:
        if self._rest:
            self._emit(self._rest)

    def _emit(self, line: bytes) -> None:
        line = line.rstrip(b"\r")
        self._on_line(line[line.rfind(b"\r") + 1 :][:_LINE_BYTES_MAX].decode("utf-8", "replace"))
