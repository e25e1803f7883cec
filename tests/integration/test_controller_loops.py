"""The controller's loops: what is under way ends with them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.controller.loops import Loops
from tests.support.flow_world import World


async def _silent(*_: object) -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield


async def test_work_under_way_ends_when_the_lease_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.tools.signals.listen = _silent
    runtime: Any = world.runtime
    runtime.watch = _silent

    async def nothing() -> list[object]:
        return []

    runtime.list = nothing
    loops = Loops(world.tools, runtime, world.sites, world.queue)
    began, ended = asyncio.Event(), asyncio.Event()

    async def reconcile(_space_id: str) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(loops._reconciler, "reconcile", reconcile)
    running = asyncio.create_task(loops.run())
    loops.look("some-space")
    await asyncio.wait_for(began.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(ended.wait(), 5)
