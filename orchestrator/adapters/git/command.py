"""Runs git on a repository of an author who may be hostile.

Every call has a limit on time and on output, an environment of its own (no configuration of the machine, the user or
the caller reaches git), and arguments that cannot be taken for options. Must never follow a path of a repository on
disk: contents are read as objects, by id.

Git streams large files, but not those that are packed as a difference to another: these it builds in memory, and a
pack of some kilobytes can ask for gigabytes that way. So git may allocate only so much at once, and only few of our own
reads of such files run at the same time.
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
ALLOCATION_MAX = "512m"
"""What git may allocate at once; with more it ends, having said so in the words of _ALLOCATION_REFUSED."""
_ALLOCATION_REFUSED = b"attempting to allocate"
_LARGE_BYTES = 32 << 20
_UNPACKING, _LARGE = threading.BoundedSemaphore(4), threading.BoundedSemaphore(4)
_ROOM_WAIT_S = 10.0
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
        "GIT_ALLOC_LIMIT": ALLOCATION_MAX,
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
    """Content of a blob in pieces, `length` bytes from `start`. Closing the iterator ends git.

    Raises Invalid for one that takes git too much memory, Unavailable while too many such are read, GitError.
    """
    size, is_delta = _facts(repository, oid)
    wanted = ("cat-file", "blob", oid)
    with (
        _room(_LARGE if is_delta and size > _LARGE_BYTES else None),
        tempfile.TemporaryFile() as errors,
        _started(repository, wanted, errors) as process,
    ):
        assert process.stdout is not None
        with _room(_UNPACKING if is_delta else None):
            piece = process.stdout.read(_PIECE)
        skip, left = start, size - start if length is None else min(length, size - start)
        while left > 0:
            if not piece:
                raise _unreadable(process, errors)
            kept = piece[skip : skip + left]
            skip, left = max(0, skip - len(piece)), left - len(kept)
            if kept:
                yield kept
            piece = process.stdout.read(min(_PIECE, skip + left)) if left else b""


def _facts(repository: Path, oid: str) -> tuple[int, bool]:
    """Size of a blob, and whether it is packed as a difference to another."""
    answer = run(repository, "cat-file", "--batch-check=%(objectsize) %(deltabase)", data=f"{oid}\n".encode())
    size, _, base = answer.decode("ascii", "replace").strip().partition(" ")
    if not size.isdigit():
        raise GitError(f"git has no object {oid}: {answer[:200]!r}")
    return int(size), base.strip("0") != ""


@contextlib.contextmanager
def _room(semaphore: threading.BoundedSemaphore | None) -> Iterator[None]:
    if semaphore is None:
        yield
        return
    if not semaphore.acquire(timeout=_ROOM_WAIT_S):
        raise Unavailable("Too many large files are being read at once; try again in a moment.", 5.0)
    try:
        yield
    finally:
        semaphore.release()


def _unreadable(process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> Invalid | GitError:
    """Why git ended before it had sent everything."""
    code = process.wait()
    errors.seek(0)
    said = errors.read(2000)
    if _ALLOCATION_REFUSED in said:
        limit = ALLOCATION_MAX.removesuffix("m")
        return Invalid(
            f"This file cannot be read: it is packed as a difference to another one, and unpacking it takes git more "
            f"than {limit} MiB of memory. Push it again with `git -c core.bigFileThreshold=32m push`, or remove it."
        )
    return GitError(f"git cat-file failed ({code}): {said.decode(errors='replace')}")


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
