"""One build's stop button: the reasons to stop, the deadline of the phase, and the processes that then have to end.

Whoever has a reason (the deadline's timer, the heartbeat that heard 409, the worker's shutdown) calls `stop` from any
thread. Every process that was started for the build is killed with its group at once, which wakes whoever waits for
its output; the pipeline's own thread finds the reason at its next `check`.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator


class Stopped(Exception):
    """The build must not go on. `str()` says why."""


class Superseded(Stopped):
    """The orchestrator does not want this build any more: say nothing further about it."""


class ShuttingDown(Stopped):
    """The worker ends; another one will take the build."""


class PhaseTimeout(Stopped):
    """A phase took longer than it may."""

    def __init__(self, phase: str, seconds: float) -> None:
        super().__init__(f"The {phase} phase took longer than its limit of {seconds:g} seconds and was stopped.")
        self.phase, self.seconds = phase, seconds


class Control:
    """Shared by the threads of one build."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._reason: Stopped | None = None
        self._processes: set[subprocess.Popen[bytes]] = set()

    @property
    def reason(self) -> Stopped | None:
        return self._reason

    def stop(self, reason: Stopped) -> None:
        """The first reason counts."""
        with self._lock:
            self._reason = self._reason or reason
            self.stopped.set()
            processes = list(self._processes)
        for process in processes:
            kill_group(process)

    def check(self) -> None:
        """Raise the reason to stop, if there is one."""
        if self._reason is not None:
            raise self._reason

    @contextlib.contextmanager
    def limit(self, phase: str, seconds: float) -> Iterator[None]:
        """Stop the build if the block takes longer."""
        timer = threading.Timer(seconds, self.stop, [PhaseTimeout(phase, seconds)])
        timer.daemon = True
        timer.start()
        try:
            yield
            self.check()
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def watching(self, process: "subprocess.Popen[bytes]") -> Iterator[None]:
        """Kill the process and its group when the build is stopped, and in any case when the block ends."""
        with self._lock:
            self._processes.add(process)
            late = self._reason is not None
        if late:
            kill_group(process)
        try:
            yield
        finally:
            with self._lock:
                self._processes.discard(process)
            kill_group(process)
            process.wait()


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to the process's own group. The leader is not reaped before, so its number cannot have been reused."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
