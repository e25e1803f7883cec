"""All boxes of this machine: started, watched, ended, and found again after the runner itself was killed.

Boxes do not depend on the runner. What it needs to know of them lies in `run/boxes/`, and their end is learnt through
process descriptors, so it makes no difference which runner started a box.
"""

import asyncio
import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge, Histogram

from builder.sandbox import launch
from builder.sandbox.launch import FIRST_BOX_UID
from builder.sandbox.trees import remove_tree
from builder.sandbox.usage import memory_over
from orchestrator.errors import DormouseError
from orchestrator.ports.runtime import ReplicaSpec
from orchestrator.runner import ending, runlog
from orchestrator.runner.box import LiveBox
from orchestrator.runner.environment import APP_PORT
from orchestrator.runner.leftovers import box_of, kill_unknown_boxes, remove_unknown_files
from orchestrator.runner.listening import Descriptors, open_descriptors
from orchestrator.runner.readiness import answers, listening_ports
from orchestrator.runner.record import (
    BoxRecord,
    boot_id,
    box_folder,
    box_pid,
    checked_id,
    load,
    process_start,
    read_status,
)
from orchestrator.runner.site import Site

log = structlog.get_logger()

_WATCH_EVERY_S = 1.0
_START_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 21, 34, 60, 120, 300, 900, 1800)
_start_seconds = Histogram(
    "dormouse_replica_start_seconds", "Start of a replica to its first answer", buckets=_START_BUCKETS
)
_ends = Counter("dormouse_replica_ends_total", "Replicas that ended", ["reason"])
_replicas = Gauge("dormouse_replicas", "Replicas that this runner holds", ["state"], multiprocess_mode="livesum")


class Boxes:
    """The runner's boxes. Works in the event loop only."""

    def __init__(self, site: Site, run: Path) -> None:
        self._site, self._run = site, run
        self._boxes: dict[str, LiveBox] = {}
        self._watchers: set[asyncio.Queue[BoxRecord]] = set()
        self._guard: asyncio.Task[None] | None = None

    # --- the verbs --------------------------------------------------------------------------------------------
    def start(self, spec: ReplicaSpec) -> None:
        """Take a replica; one of that id that is known already is left alone. Raises Invalid."""
        checked_id(spec.replica_id, "replica")
        checked_id(spec.space_id, "Space")
        if spec.replica_id in self._boxes:
            return
        folder = box_folder(self._run, spec.replica_id)
        remove_tree(folder)
        folder.mkdir(mode=0o700, parents=True)
        box = self._boxes[spec.replica_id] = LiveBox(self._record(spec), folder, bare=self._site.bare)
        box.update()
        try:
            self._spawn(box, spec)
        except (OSError, ValueError, DormouseError) as error:
            box.verdict = ("could-not-start", ending.could_not_start(error))
            box.located.set()
        box.task = asyncio.create_task(self._live(box))

    async def stop(self, replica_id: str, grace_s: float) -> None:
        """End a replica; returns when no process of it is left."""
        box = self._boxes.get(replica_id)
        if box is None or box.record.ended_at:
            return
        box.verdict = box.verdict or ("stopped", "Stopped by Dormouse.")
        await box.located.wait()
        box.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(box.over.wait(), max(0.0, grace_s))
        box.kill()
        await box.over.wait()

    def list(self) -> "list[BoxRecord]":
        """Everything, ended ones included."""
        return [box.record for box in self._boxes.values()]

    async def forget(self, replica_id: str) -> None:
        """Drop the record of an ended replica."""
        box = self._boxes.get(replica_id)
        if box and box.record.ended_at:
            await box.over.wait()
            del self._boxes[replica_id]
            remove_tree(box.folder)
            self._count()

    @contextlib.contextmanager
    def watching(self) -> Iterator["asyncio.Queue[BoxRecord]"]:
        """A queue of changes as they happen."""
        queue: asyncio.Queue[BoxRecord] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    # --- beginning and end of the runner ----------------------------------------------------------------------
    def adopt(self) -> None:
        """Find the boxes of an earlier runner, and clear away what belongs to none."""
        boot = boot_id()
        for folder in sorted((self._run / "boxes").glob("*")):
            record = load(folder)
            if record is None or record.replica_id != folder.name or record.boot_id != boot:
                remove_tree(folder)
                continue
            self._take_over(LiveBox(record, folder, bare=self._site.bare))
        live = {box.record.name for box in self._boxes.values() if box.inner}
        killed = kill_unknown_boxes(self._site.installation, live)
        remove_unknown_files(self._run / "apps", self._site.groups, live)
        if self._boxes or killed:
            log.info("boxes_adopted", running=len(live), ended=len(self._boxes) - len(live), killed=killed)
        self._count()
        self._guard = asyncio.create_task(self._watch_over())

    def _take_over(self, box: LiveBox) -> None:
        self._boxes[box.record.replica_id] = box
        if box.record.ended_at:
            box.over.set()
            return
        if not box.record.pid:  # The runner was killed while this box was being made.
            pid = box_pid(box.folder) or box.record.outer_pid
            if box_of(pid, self._site.installation) == box.record.name:
                box.update(pid=pid, pid_start=process_start(pid))
        if not box.adopt():
            box.located.set()
        box.task = asyncio.create_task(self._live(box))

    async def close(self, grace_s: float) -> None:
        """End every box and leave nothing behind."""
        if self._guard:
            self._guard.cancel()
        await asyncio.gather(*(self.stop(replica_id, grace_s) for replica_id in list(self._boxes)))
        for replica_id in list(self._boxes):
            await self.forget(replica_id)
        if self._site.groups:
            self._site.groups.close()

    # --- one box ----------------------------------------------------------------------------------------------
    def _record(self, spec: ReplicaSpec) -> BoxRecord:
        host = spec.environment.get("SPACE_HOST", "").split(",")[0].strip()
        return BoxRecord(
            replica_id=spec.replica_id, space_id=spec.space_id, space=spec.space, name=secrets.token_hex(6),
            host=host if host.isascii() and host.isprintable() and host else "localhost",
            port=int(spec.image.get("port") or APP_PORT), start_timeout_s=spec.start_timeout_s,
            memory_mb=spec.memory_mb, started_at=time.time(), boot_id=boot_id(), uid=self._free_uid(),
            grouped=self._site.groups is not None,
        )  # fmt: skip

    def _free_uid(self) -> int | None:
        if not self._site.root or self._site.bare:
            return None
        taken = {box.record.uid for box in self._boxes.values() if not box.over.is_set()}
        return next(uid for uid in range(FIRST_BOX_UID, FIRST_BOX_UID + 60_000) if uid not in taken)

    def _spawn(self, box: LiveBox, spec: ReplicaSpec) -> None:
        if self._site.refusal:
            raise ending.NoSandbox(self._site.refusal)
        record = box.record
        log_file = runlog.log_path(self._site.data, record.space_id, record.replica_id)
        with open_descriptors(self._run, record, box.folder, log_file) as opened:
            box.started(self._launch(box, spec, opened))

    def _launch(self, box: LiveBox, spec: ReplicaSpec, opened: Descriptors) -> "subprocess.Popen[bytes]":
        options: dict[str, object] = {
            "listen": opened.listen, "status": opened.status, "log": opened.log, "port": box.record.port,
        }  # fmt: skip
        wanted, port = self._site.launch(
            spec, box.record, folder=box.folder, options=options, status_fd=opened.bubblewrap
        )
        box.update(port=port)
        try:
            return launch.start(opened.added_to(wanted), output=opened.stderr)
        finally:
            for fd in wanted.descriptors:
                os.close(fd)

    async def _live(self, box: LiveBox) -> None:
        """From the start of a box, or its adoption, to its end."""
        self._tell(box)
        if not box.located.is_set():
            await box.locate()
        ended = asyncio.create_task(box.wait())
        if not box.record.ready_at and not box.verdict:
            await self._become_ready(box, ended)
        await ended
        self._finish(box)

    async def _become_ready(self, box: LiveBox, ended: "asyncio.Task[None]") -> None:
        record = box.record
        asking = asyncio.create_task(answers(self._run / "apps" / f"{record.name}.sock", record.host))
        left = record.started_at + record.start_timeout_s - time.time()
        await asyncio.wait({asking, ended}, timeout=max(0.1, left), return_when=asyncio.FIRST_COMPLETED)
        if asking.done() and not asking.exception():
            self._ready(box, asking.result())
            return
        asking.cancel()
        if not ended.done() and not box.verdict:
            ports = listening_ports(record.pid or box.record.pid) if not self._site.bare else []
            box.verdict = ("start-timeout", ending.start_timeout(record, ports))
            box.kill()

    def _ready(self, box: LiveBox, status: int) -> None:
        now = time.time()
        box.update(ready_at=now)
        took_s = now - box.record.started_at
        _start_seconds.observe(took_s)
        log.debug(
            "app_answers", space=box.record.space, replica=box.record.replica_id, took_s=round(took_s, 3),
            listens=read_status(box.folder).listens, status=status,
        )  # fmt: skip
        self._tell(box)

    def _finish(self, box: LiveBox) -> None:
        record, groups = box.record, self._site.groups
        out_of_memory = bool(groups and record.grouped and groups.out_of_memory(record.name))
        end = ending.judge(record, box.folder, verdict=box.verdict, out_of_memory=out_of_memory)
        box.let_go()
        (self._run / "apps" / f"{record.name}.sock").unlink(missing_ok=True)
        self._site.view.withdraw(record.name)
        if groups and record.grouped:
            groups.remove(record.name)
        for name in ("work", "home"):
            remove_tree(box.folder / name)
        now = time.time()
        runlog.append(runlog.log_path(self._site.data, record.space_id, record.replica_id), end.detail, now)
        box.update(ended_at=now, exit_code=end.exit_code, reason=end.reason, detail=end.detail)
        _ends.labels(end.reason).inc()
        # That it was stopped is told by whoever had it stopped; an exit code would make it look like a failure.
        say = log.debug if end.reason == "stopped" else log.info
        say(
            "replica_ended", space=record.space, replica=record.replica_id, reason=end.reason, exit_code=end.exit_code,
            ran_s=round(now - record.started_at, 1),
        )  # fmt: skip
        box.over.set()
        self._tell(box)

    def _tell(self, box: LiveBox) -> None:
        self._count()
        for queue in self._watchers:
            queue.put_nowait(box.record)

    def _count(self) -> None:
        states = [box.record.state for box in self._boxes.values()]
        for state in ("starting", "ready", "ended"):
            _replicas.labels(state).set(states.count(state))

    # --- each second ------------------------------------------------------------------------------------------
    async def _watch_over(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            for box in list(self._boxes.values()):
                try:
                    self._look_after(box)
                except Exception:  # One box that cannot be looked at must not leave the others without limits.
                    log.exception("watch_failed", replica=box.record.replica_id)

    def _look_after(self, box: LiveBox) -> None:
        if not box.record.ended_at:
            runlog.rotate(runlog.log_path(self._site.data, box.record.space_id, box.record.replica_id))
            self._check_memory(box)

    def _check_memory(self, box: LiveBox) -> None:
        if box.record.grouped or not box.inner or box.verdict:
            return
        if memory_over(box.inner.pid, box.record.memory_mb << 20, files=not self._site.bare):
            box.verdict = ("memory-limit", ending.memory_limit(box.record))
            box.kill()
