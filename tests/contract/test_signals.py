"""Signals over a real Redis: heard by all who listen, also after Redis was away."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.signals.redis import RedisSignals
from orchestrator.supervisor.processes import redis_command
from tests.support.product import wait_for

LIMIT_S = 15.0


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[None]:
    process = subprocess.Popen(redis_command(), cwd=folder, stdout=subprocess.DEVNULL)
    try:
        wait_for((folder / "redis.sock").exists, LIMIT_S, "Redis to listen")
        yield
    finally:
        process.kill()
        process.wait()
        (folder / "redis.sock").unlink(missing_ok=True)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working folder, since the socket's name is relative."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


async def _hear(signals: RedisSignals, heard: list[tuple[str, str]]) -> None:
    async for message in signals.listen("controller", "routes"):
        heard.append(message)  # noqa: PERF401 - others look at the list while it grows


async def _until(heard: list[tuple[str, str]], message: tuple[str, str], send: object) -> None:
    async with asyncio.timeout(LIMIT_S):
        while message not in heard:
            await send()  # type: ignore[operator]
            await asyncio.sleep(0.05)


async def test_hints_are_heard_and_again_after_redis_was_away(folder: Path) -> None:
    signals, heard = RedisSignals("redis.sock"), list[tuple[str, str]]()
    await signals.send("controller", "nobody hears this, and nothing is raised")
    listening = asyncio.create_task(_hear(signals, heard))
    with redis(folder):
        await _until(heard, ("", ""), lambda: asyncio.sleep(0))
        await _until(heard, ("controller", "one"), lambda: signals.send("controller", "one"))
        await _until(heard, ("routes", ""), lambda: asyncio.to_thread(signals.send_soon, "routes"))
        await signals.send("elsewhere", "two")
    connections = heard.count(("", ""))
    with redis(folder):
        await _until(heard, ("controller", "three"), lambda: signals.send("controller", "three"))
    assert heard.count(("", "")) > connections, "who listens is told that hints may have been lost"
    assert not any(channel == "elsewhere" for channel, _ in heard)
    listening.cancel()
