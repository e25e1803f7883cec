"""One box while this runner looks after it: its processes, and how they are ended."""

import asyncio
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from builder.sandbox.usage import descendants
from orchestrator.runner.process import HeldProcess
from orchestrator.runner.record import BoxRecord, box_pid, save

log = structlog.get_logger()
_LOOK_S = 0.003
_OUTER_GRACE_S = 1.0


class LiveBox:
    """A box that has not been forgotten. `record` is what is kept on disk; change it through `update`."""

    def __init__(self, record: BoxRecord, folder: Path, *, bare: bool) -> None:
        self.record, self.folder, self._bare = record, folder, bare
        self.outer: HeldProcess | None = None
        """bubblewrap outside of the box; without a sandbox the same as `inner`."""
        self.inner: HeldProcess | None = None
        """PID 1 of the box."""
        self.child: subprocess.Popen[bytes] | None = None
        self.verdict: tuple[str, str] | None = None
        """Reason and sentence, where we ended it."""
        self.located = asyncio.Event()
        self.over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def update(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
        if self.folder.is_dir():
            try:
                save(self.folder, self.record)
            except OSError as error:  # A full disk: the box is looked after all the same.
                log.warning("box_not_saved", replica=self.record.replica_id, reason=error.strerror)

    def started(self, child: "subprocess.Popen[bytes]") -> None:
        """The process was made; where its PID 1 is will be known in a moment."""
        self.child = child
        self.outer = HeldProcess(child.pid)
        self.update(outer_pid=child.pid, outer_start=self.outer.start)

    async def locate(self) -> None:
        """Find PID 1 of the box, unless it has ended before it began."""
        while self.outer and not self.inner:
            pid = self.outer.pid if self._bare else box_pid(self.folder)
            if pid:
                self._hold(pid)
                break
            if self.outer.ended:
                break
            await asyncio.sleep(_LOOK_S)
        self.located.set()

    def _hold(self, pid: int) -> None:
        try:
            self.inner = self.outer if self._bare else HeldProcess(pid)
        except OSError:  # It has ended already.
            return
        assert self.inner
        self.update(pid=pid, pid_start=self.inner.start)

    def adopt(self) -> bool:
        """Take over processes that an earlier runner started; whether the box still runs."""
        record = self.record
        self.outer = HeldProcess.find(record.outer_pid, record.outer_start)
        self.inner = HeldProcess.find(record.pid, record.pid_start)
        if self.inner:
            self.located.set()
        return self.inner is not None

    async def wait(self) -> None:
        """Until no process of the box is left."""
        await self.located.wait()
        held = [process for process in {self.outer, self.inner} if process]
        if held:
            waits = [asyncio.ensure_future(process.wait()) for process in held]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for waiting in waits:
                waiting.cancel()
        if self.inner:
            self.inner.send(signal.SIGKILL)
            await self.inner.wait()
        if self.outer and not await self.outer.wait(_OUTER_GRACE_S):
            self.outer.send(signal.SIGKILL)
            await self.outer.wait()

    def terminate(self) -> None:
        """Ask the app to end."""
        if self.inner:
            self.inner.send(signal.SIGTERM)

    def kill(self) -> None:
        """End every process of the box at once."""
        if self.inner and self._bare:
            for pid in reversed(list(descendants(self.inner.pid))):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        elif self.inner:
            self.inner.send(signal.SIGKILL)
        elif self.outer and self.located.is_set():
            self.outer.send(signal.SIGKILL)

    def let_go(self) -> None:
        """Close descriptors; processes run on."""
        for process in {self.outer, self.inner}:
            if process:
                process.close()
        if self.child:
            self.child.poll()
