"""Does a replica accept connections? The route table may be a moment behind a crash; the socket never is."""

import asyncio
import contextlib
import socket
from pathlib import Path

from orchestrator.gateway.clusters import CONNECT_TIMEOUT_S, Address


async def accepts(address: Address, run: Path) -> bool:
    """Whether a connection to `address` is taken. Costs 0.1 ms for a Unix socket, at most a second otherwise."""
    if address.socket:
        return _unix_accepts(str(run / address.socket))
    return await _tcp_accepts(address)


def _unix_accepts(path: str) -> bool:
    """A Unix socket connects or fails at once. A full queue (EAGAIN) is a busy app, not a dead one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


async def _tcp_accepts(address: Address) -> bool:
    try:
        opening = asyncio.open_connection(address.ip, address.port)
        _reader, writer = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
