"""One subscription per process to the hint that routes have changed, shared by all streams to gateways."""

import asyncio
import contextlib

from orchestrator.ports.signals import ROUTES, Signals


class Announcer:
    """Wakes everybody who waits whenever the route table has changed."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._news = asyncio.Event()

    async def run(self) -> None:
        async for _ in self._signals.listen(ROUTES):
            self.announce()

    def announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def ticket(self) -> asyncio.Event:
        """Take before reading the table: a change after that is not missed."""
        return self._news

    @staticmethod
    async def wait(ticket: asyncio.Event, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ticket.wait(), timeout_s)
