"""Places that requests hold for a while: so many in all, and so many for each holder.

One total alone is worth nothing: whoever comes first takes all of it. So work of different worth has lanes of its own,
and within a lane nobody (a person, a build, a stranger's address) gets more than a share. For one event loop.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from orchestrator.errors import Unavailable

RETRY_AFTER_S = 5.0
SEND_S = 60.0
"""A client that takes nothing for so long is given up."""


class Lane:
    """Places of one kind; `what` says in a refusal what there is too much of."""

    def __init__(self, what: str, *, total: int, each: int) -> None:
        self._what, self._total, self._each = what, total, each
        self._held: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @property
    def held(self) -> int:
        """How many places are taken."""
        return self._held.total()

    @contextlib.asynccontextmanager
    async def place(self, holder: str, *, wait_s: float = 0.0) -> AsyncIterator[None]:
        """Hold one place for the length of the block. Raises Unavailable if none is free within `wait_s`."""
        if not self._take(holder):
            await self._wait(holder, wait_s)
        try:
            yield
        finally:
            self._leave(holder)

    def _take(self, holder: str) -> bool:
        is_free = self.held < self._total and self._held[holder] < self._each
        if is_free:
            self._held[holder] += 1
        return is_free

    def _leave(self, holder: str) -> None:
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        # The place goes straight to whoever waits longest and may have it, so that nobody overtakes.
        for entry in self._waiting:
            if not entry[1].done() and self._take(entry[0]):
                entry[1].set_result(None)
                return

    async def _wait(self, holder: str, wait_s: float) -> None:
        entry = holder, asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(wait_s):
                await entry[1]
        except BaseException as error:
            if entry[1].done() and not entry[1].cancelled():
                self._leave(holder)  # It was given at the very moment when the waiting ended.
            if isinstance(error, TimeoutError):
                raise Unavailable(f"Too many {self._what}; try again in a moment.", RETRY_AFTER_S) from None
            raise
        finally:
            self._waiting.remove(entry)


class HeldStream(StreamingResponse):
    """A stream that holds a place as long as it lasts.

    `content` begins when the place is there, and is closed however this ends. The head of the answer follows the first
    piece: with that it is known that there is something to send, and later a failure could only break the answer off.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        place: AbstractAsyncContextManager[None],
        *,
        status: int = 200,
        headers: dict[str, str],
        media_type: str | None = None,
    ) -> None:
        super().__init__(content, status, headers, media_type)
        self._content, self._place = content, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_S):
                await send(message)

        async with self._place, contextlib.aclosing(self._content):
            self.body_iterator = _after(await anext(self._content, b""), self._content)
            with contextlib.suppress(TimeoutError):
                await super().__call__(scope, receive, send_in_time)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
