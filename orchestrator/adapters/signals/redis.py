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
    """Signals over one Redis, addressed by a URL such as `unix://redis.sock`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._plain = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0)
        self._loop_clients: dict[asyncio.AbstractEventLoop, redis.asyncio.Redis] = {}

    async def send(self, channel: str, payload: str = "") -> None:
        try:
            await self._client().publish(_PREFIX + channel, payload)
        except (RedisError, OSError) as error:
            log.debug("signal_lost", channel=channel, error=str(error))

    def send_soon(self, channel: str, payload: str = "") -> None:
        try:
            self._plain.publish(_PREFIX + channel, payload)
        except (RedisError, OSError) as error:
            log.debug("signal_lost", channel=channel, error=str(error))

    async def listen(self, *channels: str) -> AsyncIterator[tuple[str, str]]:
        while True:
            try:
                async for message in self._subscription(channels):
                    yield message
            except (RedisError, OSError) as error:
                log.debug("signals_disconnected", error=str(error))
                await asyncio.sleep(RECONNECT_S)

    async def _subscription(self, channels: tuple[str, ...]) -> AsyncIterator[tuple[str, str]]:
        client = redis.asyncio.Redis.from_url(self._url)
        try:
            pubsub = client.pubsub()
            await pubsub.subscribe(*(_PREFIX + channel for channel in channels))
            yield "", ""
            async for message in pubsub.listen():
                if message["type"] == "message":
                    yield message["channel"].decode().removeprefix(_PREFIX), message["data"].decode()
        finally:
            await client.aclose()

    def _client(self) -> redis.asyncio.Redis:
        loop = asyncio.get_running_loop()
        if loop not in self._loop_clients:
            self._loop_clients[loop] = redis.asyncio.Redis.from_url(self._url, socket_timeout=1.0)
        return self._loop_clients[loop]
