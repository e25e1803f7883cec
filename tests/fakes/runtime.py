"""A runtime in memory. The start command says what the app does: `serve`, `exit N` or `silent`."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from orchestrator.domain.names import ReplicaId
from orchestrator.errors import Unavailable
from orchestrator.ports.runtime import Isolation, Observed, ReplicaSpec


class FakeRuntime:
    """`orchestrator.ports.runtime.Runtime`, to be held to the same contract as the real one."""

    def __init__(self) -> None:
        self.replicas: dict[str, Observed] = {}
        self.away = False
        self._watchers: set[asyncio.Queue[Observed]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, spec: ReplicaSpec) -> None:
        self._check()
        if spec.replica_id in self.replicas:
            return
        seen = Observed(replica_id=spec.replica_id, space_id=spec.space_id, state="starting", since=time.time())
        self._put(replace(seen, address=f"unix:apps/{spec.replica_id}.sock"))
        task = asyncio.create_task(self._live(spec))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, replica_id: ReplicaId, grace_s: float = 10.0) -> None:
        self._check()
        seen = self.replicas.get(replica_id)
        if seen and seen.state != "ended":
            self.end(replica_id, reason="stopped", exit_code=143, detail="Stopped by Dormouse.")

    async def list(self) -> Sequence[Observed]:
        self._check()
        return list(self.replicas.values())

    async def forget(self, replica_id: ReplicaId) -> None:
        self._check()
        if replica_id in self.replicas and self.replicas[replica_id].state == "ended":
            del self.replicas[replica_id]

    async def watch(self) -> AsyncIterator[Observed]:
        self._check()
        queue: asyncio.Queue[Observed] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    async def isolation(self) -> Isolation:
        self._check()
        return Isolation(name="fake", level="full", features={"sandbox": "on"})

    # --- for tests --------------------------------------------------------------------------------------------
    def end(self, replica_id: str, *, reason: str, exit_code: int | None, detail: str) -> None:
        """Let a replica end."""
        self._put(
            replace(
                self.replicas[replica_id], state="ended", address="", reason=reason, exit_code=exit_code, detail=detail,
                since=time.time(),
            )
        )  # fmt: skip

    async def _live(self, spec: ReplicaSpec) -> None:
        word, _, argument = " ".join(spec.image["command"]).partition(" ")
        await asyncio.sleep(0)
        if word == "silent":
            await asyncio.sleep(spec.start_timeout_s)
        if self.replicas[spec.replica_id].state == "ended":
            return
        if word == "serve":
            self._put(replace(self.replicas[spec.replica_id], state="ready", since=time.time()))
        elif word == "exit":
            detail = f"The app ended with exit code {argument}."
            self.end(spec.replica_id, reason="exited", exit_code=int(argument), detail=detail)
        else:
            self.end(spec.replica_id, reason="start-timeout", exit_code=None, detail="The app did not answer.")

    def _put(self, seen: Observed) -> None:
        self.replicas[seen.replica_id] = seen
        for queue in self._watchers:
            queue.put_nowait(seen)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("The runtime is away.")
