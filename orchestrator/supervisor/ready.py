"""Whether a child answers: one small question each, over the socket that its users use."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.adapters.queue.celery import CeleryQueue

Ready = Callable[[], Awaitable[bool]]
_ANSWER_BYTES_MAX = 4096


def redis_answers(socket: Path | str) -> Ready:
    async def check() -> bool:
        answer = await _ask(await asyncio.open_unix_connection(str(socket)), b"PING\r\n")
        return answer.startswith(b"+PONG")

    return check


def http_answers(socket: Path | str, path: str) -> Ready:
    """Status 200 on a Unix socket."""

    async def check() -> bool:
        request = f"GET {path} HTTP/1.1\r\nhost: dormouse.internal\r\nconnection: close\r\n\r\n".encode()
        return _is_ok(await _ask(await asyncio.open_unix_connection(str(socket)), request))

    return check


def runner_answers(socket: Path | str) -> Ready:
    """The runner speaks lines of JSON."""

    async def check() -> bool:
        answer = await _ask(await asyncio.open_unix_connection(str(socket)), b'{"verb": "isolation"}\n')
        return answer.startswith(b'{"ok"')

    return check


def socket_accepts(socket: Path | str) -> Ready:
    async def check() -> bool:
        _reader, writer = await asyncio.open_unix_connection(str(socket))
        writer.close()
        return True

    return check


def gateway_answers(settings: Settings) -> Ready:
    """The public listener leads to the API: both are up, and the way between them."""

    async def check() -> bool:
        request = f"GET /healthz HTTP/1.1\r\nhost: {settings.domain}\r\nconnection: close\r\n\r\n".encode()
        return _is_ok(await _ask(await asyncio.open_connection(settings.local_host, settings.port), request))

    return check


def worker_answers(socket: Path) -> Ready:
    """A Celery worker replies to a ping; asked in a thread, since Celery's client blocks."""

    @cache
    def queue() -> "CeleryQueue":
        from orchestrator.adapters.queue.celery import CeleryQueue, broker_url

        return CeleryQueue(broker_url(socket))

    async def check() -> bool:
        return await asyncio.to_thread(lambda: queue().answers())

    return check


def _is_ok(answer: bytes) -> bool:
    return answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))


async def _ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> bytes:
    reader, writer = streams
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read(_ANSWER_BYTES_MAX)
    finally:
        writer.close()
