"""Runs git on a repository of an author who may be hostile.

Every call has a limit on time and on output, an environment of its own (no configuration of the machine, the user or
the caller reaches git), and arguments that cannot be taken for options. Must never follow a path of a repository on
disk: contents are read as objects, by id.
"""

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from orchestrator.errors import Bug, Invalid, Unavailable

TIMEOUT_S = 15.0
OUTPUT_MAX = 16 << 20
_PIECE = 64 << 10
_MEMORY = ("pack.threads=1", "pack.windowMemory=64m", "core.bigFileThreshold=16m", "core.packedGitLimit=256m")


class GitError(Bug):
    """Git itself failed at something that ought to work; `stderr` is cut."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """All that git sees of the environment."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        **(extra or {}),
    }


def arguments(repository: Path | None, *rest: str, settings: Sequence[str] = ()) -> list[str]:
    """The command line of a git command on `repository`."""
    line = ["git", "-c", "safe.directory=*"]
    for setting in (*_MEMORY, *settings):
        line += ["-c", setting]
    if repository is not None:
        line += ["--git-dir", str(repository)]
    return [*line, *rest]


def run(
    repository: Path | None, *rest: str, data: bytes = b"", output_max: int = OUTPUT_MAX, timeout_s: float = TIMEOUT_S
) -> bytes:
    """Run git to its end and return its output.

    Raises GitError if it fails, Invalid if there is more output than `output_max`, Unavailable if it takes too long.
    """
    with tempfile.TemporaryFile() as errors, _started(repository, rest, errors, takes_data=bool(data)) as process:
        expired = threading.Event()
        with _deadline(process, expired, timeout_s), _feeding(process, data):
            assert process.stdout is not None
            output = process.stdout.read(output_max + 1)
            if len(output) > output_max:
                raise Invalid("There is more in this repository than Dormouse lists in one answer.")
            code = process.wait()
        if expired.is_set():
            raise Unavailable("Git took too long over this repository; try again later.", 10.0)
        if code != 0:
            errors.seek(0)
            raise GitError(f"git {rest[0]} failed ({code}): {errors.read(2000).decode(errors='replace')}")
        return output


def read(repository: Path, oid: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """Content of a blob in pieces, `length` bytes from `start`. Closing the iterator ends git."""
    with _started(repository, ("cat-file", "blob", oid), subprocess.DEVNULL) as process:
        assert process.stdout is not None
        skip, left = start, length
        while left is None or left > 0:
            piece = process.stdout.read(_PIECE if left is None else min(_PIECE, left + skip))
            if not piece:
                return
            dropped = min(skip, len(piece))
            skip -= dropped
            piece = piece[dropped:]
            if left is not None:
                left -= len(piece)
            if piece:
                yield piece


@contextlib.contextmanager
def _started(
    repository: Path | None, rest: Sequence[str], errors: "IO[bytes] | int", *, takes_data: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """A git process that does not outlive the block."""
    try:
        process = subprocess.Popen(
            arguments(repository, *rest),
            stdin=subprocess.PIPE if takes_data else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise Unavailable("Git is not installed on this machine; install it and try again.", 60.0) from error
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()


@contextlib.contextmanager
def _deadline(process: "subprocess.Popen[bytes]", expired: threading.Event, timeout_s: float) -> Iterator[None]:
    """End the process after `timeout_s`, which ends every read of its output too."""

    def expire() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _feeding(process: "subprocess.Popen[bytes]", data: bytes) -> Iterator[None]:
    """Write `data` beside the reading of the output, since either pipe may fill up first."""
    if process.stdin is None:
        yield
        return
    stdin = process.stdin

    def feed() -> None:
        with contextlib.suppress(OSError, ValueError):
            stdin.write(data)
            stdin.close()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    yield
    feeder.join(timeout=TIMEOUT_S)
