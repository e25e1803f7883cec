"""A signal without content: "something has changed, look again". Waiters look at the state, never at the signal."""

import asyncio
import contextlib


class Pulse:
    """Take a ticket, look at the state, then wait with the ticket: no beat after the look is missed."""

    def __init__(self) -> None:
        self._beats = 0
        self._next = asyncio.Event()

    def beat(self) -> None:
        """Wake everybody who waits."""
        self._beats += 1
        self._next.set()
        self._next = asyncio.Event()

    def ticket(self) -> int:
        return self._beats

    async def wait(self, ticket: int, timeout_s: float) -> None:
        """Return once there was a beat after the ticket was taken, or after `timeout_s`."""
        if self._beats == ticket:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._next.wait(), timeout_s)
