"""How others ask the runner: one JSON object per line over `runner.sock`, which only the same user can open.

    {"verb": "start", "spec": {...}}   {"verb": "stop", "replica_id": "...", "grace_s": 10}   {"verb": "list"}
    {"verb": "forget", "replica_id": "..."}   {"verb": "isolation"}   {"verb": "watch"}

Each is answered with {"ok": ...} or {"error": "a sentence", "refused": bool}. `watch` is answered with {"ok": null},
then a line {"replica": {...}} per change and an empty object as a sign of life. Specs hold secrets: no request is
ever logged.
"""

import asyncio
import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import structlog

from orchestrator.errors import DormouseError, Invalid, Refused
from orchestrator.ports.runtime import Isolation, ReplicaSpec
from orchestrator.runner.boxes import Boxes

log = structlog.get_logger()

LINE_BYTES_MAX = 8 << 20
HEARTBEAT_S = 5.0
_SPEC_FIELDS = frozenset(field.name for field in fields(ReplicaSpec))


def parse_spec(raw: Any) -> ReplicaSpec:
    """Raises Invalid."""
    try:
        spec = ReplicaSpec(**{name: value for name, value in raw.items() if name in _SPEC_FIELDS})
    except (TypeError, AttributeError) as error:
        raise Invalid("The description of this replica is incomplete.") from error
    strings = (spec.replica_id, spec.space_id, spec.space, spec.egress)
    if not all(isinstance(text, str) for text in strings) or not isinstance(spec.image, dict):
        raise Invalid("The description of this replica has a field of the wrong kind.")
    if spec.egress not in ("proxy", "none", "host"):
        raise Invalid(f"{spec.egress!r} is no way out of a Space: write proxy, none or host.")
    return spec


class ControlServer:
    """Answers requests on the control socket."""

    def __init__(self, boxes: Boxes, isolation: Isolation) -> None:
        self._boxes, self._isolation = boxes, isolation

    async def open(self, path: Path) -> asyncio.Server:
        """Listen. Raises OSError."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, before anything is served
        before = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._serve, path, limit=LINE_BYTES_MAX)
        finally:
            os.umask(before)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                request = json.loads(line)
                if isinstance(request, dict) and request.get("verb") == "watch":
                    await self._watch(writer)
                else:
                    await _send(writer, await self._answer(request))
        except (OSError, ValueError, TimeoutError):
            pass  # Whoever asked has gone, or speaks another language.
        except asyncio.CancelledError:
            pass  # The runner ends; asyncio would report a connection that is cut then as a failure.
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"ok": await self._carry_out(request)}
        except DormouseError as error:
            return {"error": str(error), "refused": isinstance(error, Refused)}
        except (KeyError, TypeError, ValueError):
            return {"error": "The runner does not understand this request.", "refused": True}
        except Exception:
            log.exception("request_failed", verb=str(request["verb"]))
            return {"error": "The runner failed on this request; its log says more.", "refused": False}

    async def _carry_out(self, request: dict[str, Any]) -> Any:
        match request["verb"]:
            case "start":
                self._boxes.start(parse_spec(request["spec"]))
            case "stop":
                await self._boxes.stop(str(request["replica_id"]), float(request["grace_s"]))
            case "forget":
                await self._boxes.forget(str(request["replica_id"]))
            case "list":
                return [record.observed() for record in self._boxes.list()]
            case "isolation":
                return asdict(self._isolation)
            case verb:
                raise Invalid(f"The runner knows no verb {verb!r}.")
        return None

    async def _watch(self, writer: asyncio.StreamWriter) -> None:
        with self._boxes.watching() as changes:
            await _send(writer, {"ok": None})
            while True:
                try:
                    record = await asyncio.wait_for(changes.get(), HEARTBEAT_S)
                except TimeoutError:
                    await _send(writer, {})
                else:
                    await _send(writer, {"replica": record.observed()})


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
    await asyncio.wait_for(writer.drain(), HEARTBEAT_S)
