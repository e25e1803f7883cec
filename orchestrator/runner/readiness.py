"""Asks an app over its socket whether it answers.

A connection is made at once and waits in the backlog, so the answer comes in the moment the app serves: there is no
polling interval to lose. Any answer below 500 counts; a server error or a broken connection is asked again.
"""

import asyncio
import contextlib
from pathlib import Path

_RETRY_S = 0.15
_ANSWER_TIMEOUT_S = 20.0
_LINE_BYTES_MAX = 8192


async def ask(socket: Path, host: str) -> int | None:
    """Status of `GET /`, or None if there was no sensible answer."""
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_unix_connection(socket, limit=_LINE_BYTES_MAX)
        writer.write(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: dormouse-readiness\r\nAccept: */*\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        line = await asyncio.wait_for(reader.readline(), _ANSWER_TIMEOUT_S)
        words = line.decode("latin-1").split(" ")
        return int(words[1]) if words[0].startswith("HTTP/1.") and words[1:2] else None
    except (OSError, TimeoutError, ValueError):
        return None
    finally:
        if writer:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def answers(socket: Path, host: str) -> int:
    """Ask until the app answers; its status. Never gives up: cancel it."""
    while True:
        status = await ask(socket, host)
        if status is not None and status < 500:
            return status
        await asyncio.sleep(_RETRY_S)


def listening_ports(pid: int) -> list[int]:
    """TCP ports that something in the network namespace of a process listens on."""
    ports = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == "0A":
                    ports.add(int(local.rpartition(":")[2], 16))
    return sorted(ports)
