"""A signal without memory: "something has changed, look again". Waiters look at the state, never at the signal."""

import asyncio
import contextlib


class Pulse:
    """Check the condition, then call `wait` without awaiting anything in between: no beat can be missed."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def beat(self) -> None:
        """Wake everybody who waits now."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next beat, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._next.wait(), timeout_s)
