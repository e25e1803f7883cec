"""A process held by descriptor: its end can be waited for and signals never hit another of the same number.

Works for processes that are not our children: boxes that an earlier runner started.
"""

import asyncio
import contextlib
import os
import signal

from orchestrator.runner.record import process_start


class HeldProcess:
    """One process."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError if there is none."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self.start = process_start(pid)
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._end)

    @classmethod
    def find(cls, pid: int, start: int) -> "HeldProcess | None":
        """The process of that number that began then, if it still runs."""
        if pid <= 0 or process_start(pid) != start:
            return None
        try:
            held = cls(pid)
        except OSError:
            return None
        if held.start != start:
            held.close()
            return None
        return held

    def _end(self) -> None:
        self._loop.remove_reader(self._fd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        self._ended.set()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it has ended, waiting at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        return self.ended

    def send(self, number: signal.Signals) -> None:
        """Silent if it has ended."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        """Let go of it; it runs on."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
