"""Starts one box: descriptors, uid, cgroup, then bubblewrap.

The child joins its cgroup and drops to the box's uid between fork and exec; that order cannot be had from
`subprocess` itself. The parent must have no threads that hold locks then.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

FIRST_BOX_UID = 200_000


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to start and as whom."""

    program: str
    arguments: bytes
    """bubblewrap's arguments, for --args; empty if the program is no bubblewrap."""
    command: Sequence[str]
    descriptors: Sequence[int] = ()
    """Descriptors that the box inherits under their own numbers."""
    uid: int | None = None
    """Drop to this uid first; None keeps the caller's."""
    join: Sequence[Path] = ()
    """Files of cgroups to write our pid to."""
    workdir: Path | None = None
    environment: dict[str, str] | None = None


def memory_file(name: str, content: bytes) -> int:
    """A descriptor of an unnamed file with this content, to be read from its start."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _prepare(launch: Launch) -> Callable[[], None]:
    def child() -> None:
        for path in launch.join:
            with open(path, "w") as file:  # noqa: PTH123 - between fork and exec the less the better
                file.write("0")
        if launch.uid is not None:
            os.setgroups([])
            os.setgid(launch.uid)
            os.setuid(launch.uid)

    return child


def become(launch: Launch) -> NoReturn:
    """Turn this process into the box's. Raises OSError."""
    arguments_fd = memory_file("arguments", launch.arguments)
    for fd in (*launch.descriptors, arguments_fd):
        os.set_inheritable(fd, True)
    _prepare(launch)()
    os.execve(launch.program, [launch.program, "--args", str(arguments_fd), "--", *launch.command], {})  # noqa: S606


def start(launch: Launch, *, output: int | IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start it in a session of its own. Raises OSError if the program cannot be executed."""
    command, descriptors = [launch.program, *launch.command], [*launch.descriptors]
    arguments_fd = -1
    if launch.arguments:
        arguments_fd = memory_file("arguments", launch.arguments)
        command = [launch.program, "--args", str(arguments_fd), "--", *launch.command]
        descriptors.append(arguments_fd)
    try:
        return subprocess.Popen(
            command, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, cwd=launch.workdir, env=launch.environment or {},
            preexec_fn=_prepare(launch),  # noqa: PLW1509 - see the module's docstring
        )  # fmt: skip
    finally:
        if arguments_fd >= 0:
            os.close(arguments_fd)
