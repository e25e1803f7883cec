"""The controller process. Any number may run; the one that holds the lease in the database is active."""

import asyncio
import contextlib
import os
import signal
import time
import uuid

import structlog

from orchestrator.bootstrap import connect
from orchestrator.controller.loops import Loops
from orchestrator.errors import DormouseError
from orchestrator.ports.store import Store
from orchestrator.settings import Settings

log = structlog.get_logger()
LEASE = "controller"
LEASE_TTL_S = 4.0
LEASE_RENEW_S = 1.0


async def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Losing the lease ends the work at once, and the process stands by again."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parts = connect(settings)
    holder = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    active: asyncio.Task[None] | None = None
    held_until = 0.0
    try:
        while not stop.is_set():
            fence = await _take(parts.store, holder)
            if fence is not None:
                held_until = time.monotonic() + LEASE_TTL_S
            if fence is not None and (active is None or active.done()):
                log.info("controller_active", fence=fence)
                active = asyncio.create_task(Loops(parts, parts.runtime, parts.sites, parts.build_queue).run())
            if fence is None and active is not None and time.monotonic() >= held_until - LEASE_RENEW_S:
                log.warning("controller_lost_lease")
                await _end(active)
                active = None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LEASE_RENEW_S)
    finally:
        await _end(active)
        await asyncio.to_thread(parts.store.drop_lease, LEASE, holder)


async def _take(store: Store, holder: str) -> int | None:
    try:
        return await asyncio.to_thread(store.take_lease, LEASE, holder, ttl_s=LEASE_TTL_S, now=time.time())
    except DormouseError as error:
        log.warning("lease_not_renewed", why=str(error))
        return None


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
