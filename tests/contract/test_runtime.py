"""What every runtime promises, tried on the fake and on the real runner."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.errors import Unavailable
from orchestrator.ports.runtime import Observed, ReplicaSpec, Runtime
from tests.fakes.runtime import FakeRuntime
from tests.support.runner_world import SERVE, RunnerWorld, until

CODE = {"serve": SERVE + "serve()\n", "exit 4": "raise SystemExit(4)\n", "silent": "import time; time.sleep(60)\n"}


@dataclass
class Subject:
    """A runtime, how to describe an app to it, and how to take it away."""

    runtime: Runtime
    spec: Callable[..., ReplicaSpec]
    take_away: Callable[[], None]

    async def find(self, replica_id: str) -> Observed | None:
        return next((seen for seen in await self.runtime.list() if seen.replica_id == replica_id), None)

    async def reach(self, spec: ReplicaSpec, state: str) -> Observed:
        async def there() -> Observed | None:
            seen = await self.find(spec.replica_id)
            return seen if seen and seen.state == state else None

        return await until(there, f"{spec.replica_id} is {state}")


def _fake() -> Subject:
    runtime, count = FakeRuntime(), iter(range(100))

    def spec(app: str, **changes: Any) -> ReplicaSpec:
        name = f"r{next(count)}"
        image = {"command": app.split(" ")}
        return ReplicaSpec(**{"replica_id": name, "space_id": f"s-{name}", "space": "o/n", "image": image, **changes})

    return Subject(runtime, spec, lambda: setattr(runtime, "away", True))


@pytest.fixture(params=["fake", "process"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "fake":
        yield _fake()
        return
    world = RunnerWorld(os.geteuid())
    try:
        await world.start("runner")
        if (await world.runtime.isolation()).level == "none":
            pytest.skip("no sandbox on this machine")

        def spec(app: str, **changes: Any) -> ReplicaSpec:
            return world.spec(CODE[app], **changes)

        yield Subject(world.runtime, spec, lambda: (world.end("runner", signal.SIGTERM), None)[1])
    finally:
        await asyncio.to_thread(world.close)


async def test_a_replica_starts_and_is_ready(subject: Subject) -> None:
    spec = subject.spec("serve")
    await subject.runtime.start(spec)
    seen = await subject.reach(spec, "ready")
    assert (seen.space_id, seen.exit_code, seen.reason) == (spec.space_id, None, "")
    assert seen.address.startswith("unix:apps/")
    assert seen.since > 0


async def test_starting_again_changes_nothing(subject: Subject) -> None:
    spec = subject.spec("serve")
    await subject.runtime.start(spec)
    first = await subject.reach(spec, "ready")
    await subject.runtime.start(spec)
    assert await subject.find(spec.replica_id) == first
    await subject.runtime.stop(spec.replica_id, 1)
    await subject.runtime.start(spec)
    assert (await subject.reach(spec, "ended")).reason == "stopped"


async def test_stopping_returns_when_it_has_ended(subject: Subject) -> None:
    spec = subject.spec("serve")
    await subject.runtime.start(spec)
    await subject.reach(spec, "ready")
    await subject.runtime.stop(spec.replica_id, 2)
    seen = await subject.find(spec.replica_id)
    assert seen
    assert (seen.state, seen.address, seen.reason) == ("ended", "", "stopped")
    await subject.runtime.stop(spec.replica_id, 2)
    await subject.runtime.stop("unknown", 2)  # type: ignore[arg-type]


async def test_a_replica_can_be_stopped_while_it_starts(subject: Subject) -> None:
    spec = subject.spec("silent")
    await subject.runtime.start(spec)
    await subject.runtime.stop(spec.replica_id, 1)
    seen = await subject.find(spec.replica_id)
    assert seen
    assert (seen.state, seen.reason) == ("ended", "stopped")


async def test_an_app_that_exits_tells_its_code(subject: Subject) -> None:
    spec = subject.spec("exit 4")
    await subject.runtime.start(spec)
    seen = await subject.reach(spec, "ended")
    assert (seen.reason, seen.exit_code) == ("exited", 4)
    assert "exit code 4" in seen.detail


async def test_an_app_that_never_answers_is_ended(subject: Subject) -> None:
    spec = subject.spec("silent", start_timeout_s=0.5)
    await subject.runtime.start(spec)
    assert (await subject.reach(spec, "ended")).reason == "start-timeout"


async def test_ended_ones_are_kept_until_forgotten(subject: Subject) -> None:
    running, ended = subject.spec("serve"), subject.spec("exit 4")
    await subject.runtime.start(running)
    await subject.runtime.start(ended)
    await subject.reach(ended, "ended")
    await subject.reach(running, "ready")
    for spec in (running, ended):
        await subject.runtime.forget(spec.replica_id)
    assert await subject.find(ended.replica_id) is None
    assert await subject.find(running.replica_id) is not None
    await subject.runtime.forget("unknown")  # type: ignore[arg-type]


async def test_changes_are_told_as_they_happen(subject: Subject) -> None:
    spec = subject.spec("serve")
    states: list[str] = []

    async def follow() -> None:
        async for seen in subject.runtime.watch():
            states.append(seen.state)  # noqa: PERF401 - read while it grows

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)  # The watch has to be in place before the first change.
    await subject.runtime.start(spec)
    await subject.reach(spec, "ready")
    await subject.runtime.stop(spec.replica_id, 2)
    await until(lambda: states[-1:] == ["ended"], "the end is told")
    assert states == ["starting", "ready", "ended"]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_isolation_is_told(subject: Subject) -> None:
    isolation = await subject.runtime.isolation()
    assert isolation.level in ("full", "reduced")
    assert isolation.features["sandbox"] == "on"


async def test_a_runtime_that_is_away_says_so(subject: Subject) -> None:
    await asyncio.to_thread(subject.take_away)
    for call in (
        subject.runtime.list, subject.runtime.isolation, lambda: subject.runtime.start(subject.spec("serve")),
        lambda: subject.runtime.stop("x"),  # type: ignore[arg-type]
        lambda: anext(aiter(subject.runtime.watch())),
    ):  # fmt: skip
        with pytest.raises(Unavailable):
            await call()
