"""`Signals` on Redis publish/subscribe. A lost connection loses hints, never facts."""

import asyncio
from collections.abc import AsyncIterator

import redis
import redis.asyncio
import structlog
from redis.exceptions import RedisError

log = structlog.get_logger()
_PREFIX = "dormouse."
RECONNECT_S = 0.5


class RedisSignals:
    """Signals over the Redis that listens on a Unix socket. The path may be relative to the working folder."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._plain = redis.Redis(unix_socket_path=socket, socket_timeout=1.0)
        self._away = False
        self._loop_clients: dict[asyncio.AbstractEventLoop, redis.asyncio.Redis] = {}

    async def send(self, channel: str, payload: str = "") -> None:
        try:
            await self._client().publish(_PREFIX + channel, payload)
        except (RedisError, OSError) as error:
            self._lost(error)
        else:
            self._away = False

    def send_soon(self, channel: str, payload: str = "") -> None:
        try:
            self._plain.publish(_PREFIX + channel, payload)
        except (RedisError, OSError) as error:
            self._lost(error)
        else:
            self._away = False

    async def listen(self, *channels: str) -> AsyncIterator[tuple[str, str]]:
        while True:
            try:
                async for message in self._subscription(channels):
                    yield message
            except (RedisError, OSError) as error:
                self._lost(error)
                await asyncio.sleep(RECONNECT_S)

    def _lost(self, error: Exception) -> None:
        """Say it once: without hints everything still happens, but a period later."""
        if not self._away:
            self._away = True
            log.warning("signals_away", reason=str(error))

    async def _subscription(self, channels: tuple[str, ...]) -> AsyncIterator[tuple[str, str]]:
        client = redis.asyncio.Redis(unix_socket_path=self._socket)
        try:
            pubsub = client.pubsub()
            await pubsub.subscribe(*(_PREFIX + channel for channel in channels))
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    # Also after the client has connected anew by itself: what was said meanwhile is lost.
                    self._away = False
                    yield "", ""
                elif message["type"] == "message":
                    yield message["channel"].decode().removeprefix(_PREFIX), message["data"].decode()
        finally:
            await client.aclose()

    def _client(self) -> redis.asyncio.Redis:
        loop = asyncio.get_running_loop()
        if loop not in self._loop_clients:
            self._loop_clients[loop] = redis.asyncio.Redis(unix_socket_path=self._socket, socket_timeout=1.0)
        return self._loop_clients[loop]
