"""Child processes: started in the order of their needs, kept alive, stopped without leaving anything behind.

Each child leads a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone and the order of
stopping is ours. The kernel ends the children if the supervisor is killed, and makes the supervisor the parent of
whatever their own death leaves over (it is a "subreaper"), so that at the end nothing can hide. A child that ends by
itself is started again after a growing pause; no child's death ends the supervisor.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog

from orchestrator.errors import DormouseError
from orchestrator.supervisor import kernel

log = structlog.get_logger()

BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 10.0
HEALTHY_AFTER_S = 30.0
STOP_LIMIT_S = 10.0
"""Of the 15 s that a stop may take; the rest is for the final sweep and the interpreter's end, on a busy machine."""
_POLL_S = 0.05
_CHECK_LIMIT_S = 5.0
_LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What a child is, what it waits for, how it is told from dead."""

    name: str
    argv: Callable[[], Sequence[str]]
    """Called for each start, so that files it writes are made anew. May raise DormouseError: tried again later."""
    ready: Callable[[], Awaitable[bool]]
    """Whether the child answers. May raise OSError, which means no."""
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    """Children that must answer before this one is started for the first time."""
    stop_stage: int = 0
    """Lower stages are stopped first; children of one stage at the same time."""
    stop_grace_s: float = 5.0
    quiet: str = ""
    """Pattern of lines that tell people nothing; they are shown as debug ones."""
    survivors: bool = False
    """True where what the child started is to outlive a crash of it, to be found again by its successor."""


class Child:
    """One child over all its starts."""

    def __init__(self, spec: ChildSpec, *, folder: Path, output: Callable[[str, bytes], None]) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.restarts = 0
        self.since = 0.0
        self.pid: int | None = None
        self.ended: Callable[[int], None] = lambda _pid: None
        self._folder = folder
        self._output = output
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._readers: set[asyncio.Task[None]] = set()

    async def live(self, changed: Callable[[], None]) -> None:
        """Start the child, and start it again whenever it ends, until it is stopped."""
        pause = BACKOFF_MIN_S
        while not self._stopping:
            try:
                process = await self._start()
            except (OSError, DormouseError) as error:
                log.error("child_cannot_start", child=self.spec.name, reason=str(error), again_in_s=round(pause, 1))
            else:
                changed()
                code = await self._watch(process, changed)
                if self._stopping:
                    return
                alive_s = time.time() - self.since
                pause = BACKOFF_MIN_S if alive_s > HEALTHY_AFTER_S else pause
                log.warning(
                    "child_ended",
                    child=self.spec.name,
                    reason=ending(code),
                    alive_s=round(alive_s, 1),
                    again_in_s=round(pause, 1),
                )
            self.restarts += 1
            changed()
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_MAX_S)

    async def stop(self, hurry: asyncio.Event, deadline: float) -> None:
        """End the child and its process group: TERM, then KILL after its grace, at the deadline or in a hurry."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        kernel.signal_group(process.pid, signal.SIGTERM, leader_only=True)
        grace = max(0.0, min(self.spec.stop_grace_s, deadline - time.monotonic()))
        waiting = {asyncio.ensure_future(process.wait()), asyncio.ensure_future(hurry.wait())}
        await asyncio.wait(waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if process.returncode is None and not hurry.is_set():
            log.warning("child_killed", child=self.spec.name, after_s=round(grace, 1))
        kernel.signal_group(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1.0)

    async def _start(self) -> asyncio.subprocess.Process:
        # A pipe of our own: with one of asyncio's, `wait` would wait for everybody who has inherited it.
        output, theirs = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.spec.argv(),
                cwd=self._folder,
                env=dict(self.spec.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                umask=0o022,  # Not the caller's: sandboxes and shared environments are read by other users.
                # What a runner holds is its own to end, so it gets the chance to.
                preexec_fn=kernel.die_with_parent(signal.SIGTERM if self.spec.survivors else signal.SIGKILL),
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(theirs)
        self._process, self.pid, self.since = process, process.pid, time.time()
        reader = asyncio.create_task(self._read(output))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return process

    async def _watch(self, process: asyncio.subprocess.Process, changed: Callable[[], None]) -> int:
        """Note when the child answers for the first time, and wait for its end."""
        probing = asyncio.create_task(self._probe(changed))
        try:
            code = await process.wait()
        finally:
            probing.cancel()
        self.ready.clear()
        self.pid = None
        self.ended(process.pid)
        if not self.spec.survivors:
            kernel.signal_group(process.pid, signal.SIGKILL)
        return code

    async def _probe(self, changed: Callable[[], None]) -> None:
        while not await answers(self.spec.ready):  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(_POLL_S)
        self.ready.set()
        changed()

    async def _read(self, output: int) -> None:
        """Pass on the child's lines. No sign of life: what the child started may hold the pipe open after its end."""
        stream = asyncio.StreamReader()
        transport, _protocol = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(output, "rb", buffering=0)
        )
        rest = b""
        try:
            while chunk := await stream.read(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LINE_BYTES_MAX:
                    lines, rest = [*lines, rest], b""
                for line in filter(None, lines):
                    self._output(self.spec.name, line)
        finally:
            if rest:
                self._output(self.spec.name, rest)
            transport.close()


class Family:
    """All children of one supervisor."""

    def __init__(
        self,
        specs: Iterable[ChildSpec],
        *,
        folder: Path,
        output: Callable[[str, bytes], None],
        ended: Callable[[int], None] = lambda _pid: None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        self.children = {spec.name: Child(spec, folder=folder, output=output) for spec in specs}
        self.hurry = asyncio.Event()
        self._folder = folder
        self._facts = dict(facts or {})
        self._tasks: list[asyncio.Task[None]] = []
        for child in self.children.values():
            child.ended = ended

    async def start(self, on_ready: Callable[[str, float], None] = lambda _name, _took_s: None) -> None:
        """Start all, each once those it needs answer; returns when every child has answered."""
        kernel.become_subreaper()
        self._tasks.append(asyncio.create_task(_reap_strangers(self)))
        await asyncio.gather(*(self._first_start(child, on_ready) for child in self.children.values()))

    async def stop(self, limit_s: float = STOP_LIMIT_S) -> None:
        """Stop all, stage by stage, then whatever else descends from this process."""
        deadline = time.monotonic() + limit_s
        for stage in sorted({child.spec.stop_stage for child in self.children.values()}):
            members = [child for child in self.children.values() if child.spec.stop_stage == stage]
            await asyncio.gather(*(child.stop(self.hurry, deadline) for child in members))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(sweep)
        (self._folder / "children.json").unlink(missing_ok=True)

    def snapshot(self) -> list[dict[str, object]]:
        """State of the children, for `dormouse doctor` and the admin page."""
        return [
            {
                "name": child.spec.name,
                "pid": child.pid,
                "since": child.since,
                "restarts": child.restarts,
                "ready": child.ready.is_set(),
            }
            for child in self.children.values()
        ]

    async def _first_start(self, child: Child, on_ready: Callable[[str, float], None]) -> None:
        for name in child.spec.after:
            await self.children[name].ready.wait()
        began = time.monotonic()
        self._tasks.append(asyncio.create_task(child.live(self._write)))
        await child.ready.wait()
        on_ready(child.spec.name, time.monotonic() - began)

    def _write(self) -> None:
        """Publish the children's state; a full disk must not disturb the supervision."""
        target = self._folder / "children.json"
        part = target.with_suffix(".part")
        try:
            part.write_text(json.dumps({**self._facts, "supervisor": os.getpid(), "children": self.snapshot()}))
            part.replace(target)
        except OSError as error:
            log.warning("children_state_not_written", reason=str(error))


async def answers(check: Callable[[], Awaitable[bool]]) -> bool:
    """Whether a check says yes, soon and without an error."""
    try:
        return await asyncio.wait_for(check(), _CHECK_LIMIT_S)
    except (OSError, TimeoutError, EOFError, ValueError):
        return False


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def sweep() -> None:
    """Kill whatever still descends from this process, and collect it."""
    for _ in range(10):
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    log.warning("left_over_killed", pid=process.pid, command=process.name())
                process.kill()
        psutil.wait_procs(left, timeout=0.5)


async def _reap_strangers(family: Family) -> None:
    """Collect the dead that this process inherited as a subreaper.

    Its own children are asyncio's to collect, which takes it no longer than the pause between the two looks.
    """
    while True:
        pid = kernel.dead_child()
        await asyncio.sleep(0.1 if pid else 1.0)
        if pid and pid == kernel.dead_child() and all(child.pid != pid for child in family.children.values()):
            kernel.collect(pid)
