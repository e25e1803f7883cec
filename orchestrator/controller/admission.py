"""The line in front of the runtime: who wants to start, and who may now."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from prometheus_client import Gauge

from orchestrator.domain.waking import Ask, Bucket, admit

LINE = Gauge("dormouse_start_line", "Spaces that wait to be admitted to a start", multiprocess_mode="livesum")
RETRY_S = 0.05


class Admission:
    """Holds the line and starts those who are admitted, each in a task of its own."""

    def __init__(self, rate_per_s: float, burst: int, start: Callable[[str], Awaitable[None]]) -> None:
        self._bucket = Bucket(rate=rate_per_s, burst=burst, tokens=float(burst), at=time.monotonic())
        self._start = start
        self._line: dict[str, Ask] = {}
        self._busy: set[str] = set()
        self._news = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    def ask(self, ask: Ask) -> None:
        """Stand in line; asking again changes nothing."""
        if ask.space_id not in self._busy:
            self._line.setdefault(ask.space_id, ask)
            self._news.set()

    async def run(self) -> None:
        """Admit for ever."""
        while True:
            await self._news.wait()
            admitted, self._bucket = admit(list(self._line.values()), self._bucket, time.monotonic())
            for ask in admitted:
                del self._line[ask.space_id]
                self._begin(ask.space_id)
            LINE.set(len(self._line))
            if self._line:
                await asyncio.sleep(RETRY_S)
            else:
                self._news.clear()

    def _begin(self, space_id: str) -> None:
        self._busy.add(space_id)
        task = asyncio.ensure_future(self._run_start(space_id))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run_start(self, space_id: str) -> None:
        try:
            await self._start(space_id)
        finally:
            self._busy.discard(space_id)
