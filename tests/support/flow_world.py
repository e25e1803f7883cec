"""The flows over the real database, with the runtime and the gateway played by the test."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from builder.contract import BuildOrder, BuildResult, Image
from orchestrator.adapters.database import SqlStore, migrate, open_store
from orchestrator.adapters.logs import FileLogs
from orchestrator.controller.reconcile import Reconciler
from orchestrator.controller.sight import Sight
from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import CommitSha, SpaceName
from orchestrator.domain.space import Space, User
from orchestrator.domain.waking import Ask
from orchestrator.flows.create_space import create_space
from orchestrator.flows.record_build import record_build
from orchestrator.flows.request_build import request_build
from orchestrator.ports.repositories import Commit
from orchestrator.ports.runtime import Observed, ReplicaSpec
from orchestrator.settings import Settings

SHA = CommitSha("a" * 40)


class Silence:
    async def send(self, channel: str, payload: str = "") -> None: ...
    def send_soon(self, channel: str, payload: str = "") -> None: ...


class Repositories:
    def create(self, space_id: str, files: dict[str, bytes], *, author: str, now: float) -> CommitSha:
        return SHA

    def commit(self, space_id: str, sha: CommitSha) -> Commit:
        return Commit(sha=sha, title="a commit", message="a commit", author="ann", at=0.0)

    def delete(self, space_id: str) -> None: ...


class Vault:
    def seal(self, text: str) -> str:
        return text[::-1]

    def open(self, sealed: str) -> str:
        return sealed[::-1]

    def sign(self, message: bytes) -> bytes:
        return message[::-1]


class Runtime:
    """Takes everything; the test says what becomes of it."""

    def __init__(self) -> None:
        self.specs: dict[str, ReplicaSpec] = {}
        self.stopped: list[str] = []

    async def start(self, spec: ReplicaSpec) -> None:
        self.specs.setdefault(spec.replica_id, spec)

    async def stop(self, replica_id: str, grace_s: float = 10.0) -> None:
        self.stopped.append(replica_id)

    async def forget(self, replica_id: str) -> None: ...


class Sites:
    def __init__(self) -> None:
        self.live: dict[str, str] = {}

    def publish(self, host: str, snapshot: str) -> str:
        self.live[host] = snapshot
        return "unix:caddy.sock"

    def withdraw(self, host: str) -> None:
        self.live.pop(host, None)


@dataclass
class Queue:
    orders: list[BuildOrder] = field(default_factory=list)

    def send(self, order: BuildOrder) -> None:
        self.orders.append(order)

    def workers(self) -> int:
        return 1


class World:
    """A controller without its loops: the test turns the crank."""

    def __init__(self, folder: Path) -> None:
        migrate(folder / "db")
        self.store: SqlStore = open_store(folder / "db")
        self.runtime, self.sites, self.queue, self.sight = Runtime(), Sites(), Queue(), Sight()
        self.sight.listed([], time.time())
        self.tools: Any = SimpleNamespace(
            settings=Settings(data=folder), store=self.store, repositories=Repositories(), vault=Vault(),
            signals=Silence(), logs=FileLogs(folder),
        )  # fmt: skip
        self.asked: list[Ask] = []
        self.reconciler = Reconciler(self.tools, self.runtime, self.sites, self.queue, self.sight, self.asked.append)
        self.user: User = self.store.create_user("ann", now=1.0)
        self.store.gateway_seen("g", acked=0, quiet={}, now=time.time())

    def new(self, name: str = "app", sdk: str = "gradio") -> Space:
        return create_space(
            self.tools, self.user, SpaceName("ann", name), sdk=sdk, visibility="public", now=time.time()
        )

    def look(self, space: Space) -> Space:
        found = self.store.space(space.id)
        assert found is not None
        return found

    async def turn(self, space: Space) -> Space:
        """One look of the controller, and the starts that it asked for."""
        await self.reconciler.reconcile(space.id)
        for ask in [self.asked.pop() for _ in range(len(self.asked))]:
            await self.reconciler.start(ask.space_id)
        if self.reconciler.tasks:
            for task in list(self.reconciler.tasks):
                await task
        return self.look(space)

    def built(self, space: Space, sdk: str = "gradio") -> Space:
        build = self.store.builds(space.id)[0]
        image = Image(id=f"i{build.id}", kind="environment", sdk=sdk, snapshot=f"snapshots/{space.id}/x")
        assert record_build(self.tools, self.look(space), build, BuildResult(image=image), now=time.time())
        return self.look(space)

    def see(self, space: Space, state: str, **more: str) -> None:
        replica = self.store.replicas(space.id)[-1]
        address = f"unix:apps/{replica.id}.sock"
        seen = Observed(replica_id=replica.id, space_id=space.id, state=state, address=address, **more)  # type: ignore[arg-type]
        self.sight.changed(seen, time.time())

    async def run(self, space: Space) -> Space:
        """From a commit to RUNNING."""
        request_build(self.tools, self.look(space), SHA, now=time.time(), text="commit")
        await self.turn(space)
        self.built(space)
        await self.turn(space)
        self.see(space, "ready")
        space = await self.turn(space)
        assert space.stage is Stage.RUNNING
        return space

    def ack(self, quiet: dict[str, int] | None = None) -> None:
        newest = max((route.generation for route in self.store.routes()), default=0)
        self.store.gateway_seen("g", acked=newest, quiet=quiet or {}, now=time.time())
