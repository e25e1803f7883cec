"""The runtime of one machine: asks the runner process over its Unix socket.

A connection per request: the runner may be restarted at any moment, and a request that was cut may be repeated.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.domain.names import ReplicaId
from orchestrator.errors import Invalid, Unavailable
from orchestrator.ports.runtime import Isolation, Observed, ReplicaSpec

_LINE_BYTES_MAX = 8 << 20
_ANSWER_TIMEOUT_S = 30.0
_SILENCE_S = 15.0


class ProcessRuntime:
    """`orchestrator.ports.runtime.Runtime` over `runner.sock`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def start(self, spec: ReplicaSpec) -> None:
        raw = asdict(spec) | {"image": dict(spec.image), "environment": dict(spec.environment)}
        await self._ask({"verb": "start", "spec": raw})

    async def stop(self, replica_id: ReplicaId, grace_s: float = 10.0) -> None:
        request = {"verb": "stop", "replica_id": replica_id, "grace_s": grace_s}
        await self._ask(request, timeout_s=grace_s + _ANSWER_TIMEOUT_S)

    async def list(self) -> Sequence[Observed]:
        return [_observed(raw) for raw in await self._ask({"verb": "list"})]

    async def forget(self, replica_id: ReplicaId) -> None:
        await self._ask({"verb": "forget", "replica_id": replica_id})

    async def isolation(self) -> Isolation:
        return Isolation(**await self._ask({"verb": "isolation"}))

    async def watch(self) -> AsyncIterator[Observed]:
        reader, writer = await self._connect()
        try:
            await _send(writer, {"verb": "watch"})
            while True:
                message = await _receive(reader, _SILENCE_S)
                if "replica" in message:
                    yield _observed(message["replica"])
        finally:
            await _close(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(self._socket, limit=_LINE_BYTES_MAX)
        except OSError as error:
            raise Unavailable("The runner, which holds the apps, is not running; it is being restarted.") from error

    async def _ask(self, request: dict[str, Any], timeout_s: float = _ANSWER_TIMEOUT_S) -> Any:
        reader, writer = await self._connect()
        try:
            await _send(writer, request)
            answer = await _receive(reader, timeout_s)
        finally:
            await _close(writer)
        if "error" in answer:
            raise (Invalid if answer.get("refused") else Unavailable)(str(answer["error"]))
        return answer["ok"]


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    try:
        writer.write(json.dumps(message).encode() + b"\n")
        await writer.drain()
    except OSError as error:
        raise Unavailable("The runner went away while it was asked.") from error


async def _receive(reader: asyncio.StreamReader, timeout_s: float) -> dict[str, Any]:
    try:
        line = await asyncio.wait_for(reader.readline(), timeout_s)
        message = json.loads(line) if line else None
    except (OSError, TimeoutError, ValueError) as error:
        raise Unavailable("The runner did not answer in time.") from error
    if not isinstance(message, dict):
        raise Unavailable("The runner went away before it answered.")
    return message


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _observed(raw: dict[str, Any]) -> Observed:
    return Observed(**raw)
