"""Why a replica ended, in a word for programs and a sentence for people. Reads the box's own files, decides purely."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import DormouseError, Unavailable
from orchestrator.runner.record import BoxRecord, exit_sentence, plain_exit, read_status, read_stderr

_SIGKILL = 9


@dataclass(frozen=True)
class End:
    """How a replica ended."""

    reason: str
    detail: str
    exit_code: int | None


class NoSandbox(Unavailable):
    """The sandbox does not work on this machine, so nothing is started."""


def could_not_start(error: Exception) -> str:
    """A sentence for an error before the box existed."""
    if isinstance(error, NoSandbox):
        return f"The app was not started: the sandbox is {error}"
    if isinstance(error, OSError) and error.errno:
        return f"The app could not be started: {os.strerror(error.errno)} ({error.filename or 'sandbox'})."
    return f"The app could not be started: {error}" if isinstance(error, DormouseError | ValueError) else str(error)


def memory_limit(record: BoxRecord) -> str:
    """A sentence for a replica that took too much memory."""
    return (
        f"The app was ended because it used more than its {record.memory_mb} MB of memory "
        "(files in /tmp and the home folder count too)."
    )


def start_timeout(record: BoxRecord, ports: Sequence[int]) -> str:
    """A sentence for a replica that never answered; it names ports that were listened on instead."""
    others = [str(port) for port in ports if port not in (record.port, 3128)]
    hint = f" It listens on port {', '.join(others[:5])}: let it listen on {record.port}." if others else ""
    return f"The app did not answer on port {record.port} within {record.start_timeout_s:g} s and was ended.{hint}"


def judge(record: BoxRecord, folder: Path, *, verdict: tuple[str, str] | None, out_of_memory: bool) -> End:
    """Put together what is known. `verdict` is ours, where we ended it ourselves."""
    status = read_status(folder)
    code = plain_exit(status.exit_code) if status.exit_code is not None else None
    if verdict:
        return End(verdict[0], verdict[1], code)
    killed = status.exit_code in (None, -_SIGKILL)
    if out_of_memory and (killed or status.exit_code):
        return End("memory-limit", memory_limit(record), code if code is not None else 128 + _SIGKILL)
    if status.failure:
        return End("could-not-start", f"The app could not be started: {status.failure}.", 127)
    if status.exit_code is not None:
        return End("exited", exit_sentence(status.exit_code), code)
    if not record.pid or (not record.ready_at and read_stderr(folder)):
        why = read_stderr(folder) or "the sandbox ended without a word"
        return End("could-not-start", f"The app could not be started: {why}", None)
    return End("exited", "The app was ended from outside (SIGKILL).", 128 + _SIGKILL)
