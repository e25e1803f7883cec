"""The agent's side of the internal API: follow the routes, report, ask for wakes. HTTP over a Unix socket.

The control plane may be away at any moment. Every call here either gives an answer within its time or raises
Unavailable; what to do then (serve on, hold on, try again) is decided by the callers.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from orchestrator.errors import Invalid, Unavailable
from orchestrator.gateway.routes import RouteChange, parse_change

_LINE_BYTES_MAX = 256 << 20
"""One line is the whole table at the start: some 150 bytes per awake Space."""
_SILENCE_S = 7.0
"""The stream sends something each two seconds; after this the connection is taken for dead."""
_CALL_TIMEOUT_S = 5.0
_WAKES_AT_ONCE = 64
_TEXT_MAX = 4000


@dataclass(frozen=True, kw_only=True)
class WakeAnswer:
    """What the control plane says about a visit to a host that nothing serves just now."""

    answer: str
    """serve, wait, explain or missing."""
    stage: str = ""
    space: str = ""
    """owner/name."""
    title: str = ""
    message: str = ""
    file: str = ""
    line: int | None = None
    page: str = ""
    """Address of the Space's page."""
    retry_after_s: int = 2
    private: bool = False
    opened_by: int | None = None
    """Which of the credentials has opened a private Space."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A sign of life and what is new."""

    acked: int | None
    quiet: Mapping[str, int]
    active: Mapping[str, float]
    moved: Mapping[str, float]


def parse_answer(data: Any) -> WakeAnswer:
    """Read the answer of a wake; raises Invalid."""
    if not isinstance(data, dict) or data.get("answer") not in ("serve", "wait", "explain", "missing"):
        raise Invalid("The internal API gave no answer that the gateway knows.")
    line, wait, opened_by = data.get("line"), data.get("retry_after_s"), data.get("opened_by")
    texts = {name: str(data.get(name) or "")[:_TEXT_MAX] for name in ("stage", "space", "title", "message", "file")}
    page = str(data.get("page") or "")
    return WakeAnswer(
        answer=data["answer"],
        **texts,
        line=line if isinstance(line, int) else None,
        page=page if page.startswith(("http://", "https://")) else "",
        retry_after_s=max(1, min(3600, int(wait))) if isinstance(wait, int | float) else 2,
        private=data.get("private") is True,
        opened_by=opened_by if isinstance(opened_by, int) and opened_by >= 0 else None,
    )


class ControlPlane:
    """Client of the internal API. One connection carries the route stream, others come and go."""

    def __init__(self, socket: Path, gateway_id: str) -> None:
        self._gateway = gateway_id
        self._wakes = asyncio.Semaphore(_WAKES_AT_ONCE)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket), limit=0),
            timeout=aiohttp.ClientTimeout(total=_CALL_TIMEOUT_S),
        )

    async def wake(
        self, host: str, *, path: str, method: str, dead: str | None, credentials: Sequence[str] = ()
    ) -> WakeAnswer:
        """Ask for a wake of `host`, by a visitor who shows `credentials`. Repeatable. Raises Unavailable."""
        body = {
            "host": host,
            "path": path,
            "method": method,
            "gateway": self._gateway,
            "dead": dead,
            "credentials": list(credentials),
        }
        async with self._wakes:
            text = await self._post("/internal/wake", body)
        try:
            return parse_answer(json.loads(text))
        except ValueError as error:
            raise Unavailable("The internal API gave an answer that is no JSON.") from error
        except Invalid as error:
            raise Unavailable(str(error)) from error

    async def report(self, report: Report) -> None:
        """Send a sign of life. Raises Unavailable."""
        body = {
            "acked": report.acked,
            "quiet": dict(report.quiet),
            "active": dict(report.active),
            "moved": dict(report.moved),
        }
        await self._post(f"/internal/gateways/{self._gateway}/report", body)

    async def routes(self, after: int) -> AsyncIterator[RouteChange]:
        """Changes of the route table as they come. Raises Unavailable when the stream ends or falls silent."""
        url = f"http://internal/internal/gateways/{self._gateway}/routes"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CALL_TIMEOUT_S, sock_read=_SILENCE_S)
        try:
            async with self._http.get(url, params={"after": str(after)}, timeout=timeout) as answer:
                if answer.status != 200:
                    raise Unavailable(f"The internal API refused the route stream with status {answer.status}.")
                async for line in _lines(answer.content):
                    yield parse_change(line)
        except (aiohttp.ClientError, TimeoutError, OSError, Invalid) as error:
            raise Unavailable(f"The route stream broke off ({error or type(error).__name__}).") from error
        raise Unavailable("The route stream has ended.")

    async def close(self) -> None:
        await self._http.close()

    async def _post(self, path: str, body: Mapping[str, Any]) -> str:
        try:
            async with self._http.post("http://internal" + path, json=body) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"The internal API does not answer ({error or type(error).__name__}).") from error
        if answer.status >= 300:
            raise Unavailable(f"The internal API answered {path} with status {answer.status}.")
        return text


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any sensible length; aiohttp's own reader stops at 64 KiB."""
    parts: list[bytes] = []
    size = 0
    async for chunk in content.iter_any():
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            line = b"".join([*parts, piece])
            parts, size = [], 0
            if line.strip():
                yield line
        parts.append(rest)
        size += len(rest)
        if size > _LINE_BYTES_MAX:
            raise Invalid("a line is too long")
