"""The process `egress`: a filtering HTTP(S) proxy on a Unix socket, the only way out of a Space.

Boxes have no network. They see the folder of this socket read-only, and their PID 1 relays 127.0.0.1:3128 to it; the
folder rather than the socket, so that boxes find the proxy again after it was restarted. The rules are in
`egress_policy`. As root the process gives up its rights once it listens: it reads what hostile code sends.
"""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import struct
import time
from collections import Counter as Count
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import structlog
from prometheus_client import Counter, Gauge

from builder.sandbox.syscalls import signal_when_parent_ends
from orchestrator.errors import Invalid
from orchestrator.runner.egress_policy import Address, Policy, Refusal, Target, parse_networks
from orchestrator.runner.egress_request import HEAD_BYTES_MAX, ProxyRequest, parse_request
from orchestrator.settings import Settings

log = structlog.get_logger()

SOCKET = Path("egress") / "egress.sock"
_UNPRIVILEGED = 65534
_HEAD_TIMEOUT_S, _RESOLVE_TIMEOUT_S, _CONNECT_TIMEOUT_S, _IDLE_TIMEOUT_S = 30.0, 10.0, 10.0, 600.0
_PER_BOX_MAX, _TOTAL_MAX = 256, 2000
_NAMES_PER_BOX_MAX, _RESOLVERS = 8, 64  # A Space whose names resolve slowly must not keep the others waiting.
_OWN_ADDRESSES_FOR_S = 30.0
_CHUNK = 1 << 16

_requests = Counter("dormouse_egress_requests_total", "Requests of Spaces to the outside", ["outcome"])
_bytes = Counter("dormouse_egress_bytes_total", "Bytes carried for Spaces", ["direction"])
_open = Gauge("dormouse_egress_connections", "Open connections of Spaces", multiprocess_mode="livesum")

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _box_of(writer: asyncio.StreamWriter) -> str:
    """Whom a connection counts for: the network namespace of the peer, or its uid where that cannot be read."""
    peer: socket.socket = writer.get_extra_info("socket")
    pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    try:
        return f"net:{Path(f'/proc/{pid}/ns/net').stat().st_ino}"
    except OSError:
        return f"uid:{uid}"


class OwnAddresses:
    """Addresses of this machine, looked up again now and then: none of them is public for a Space."""

    def __init__(self) -> None:
        self._addresses: frozenset[Address] = frozenset()
        self._until = 0.0

    def current(self, now: float) -> frozenset[Address]:
        if now >= self._until:
            found = set()
            for entries in psutil.net_if_addrs().values():
                for entry in entries:
                    with contextlib.suppress(ValueError):
                        found.add(ipaddress.ip_address(entry.address.partition("%")[0]))
            self._addresses, self._until = frozenset(found), now + _OWN_ADDRESSES_FOR_S
        return self._addresses


class EgressProxy:
    """Serves connections of boxes."""

    def __init__(self, policy: Policy, own_listener: tuple[str, int]) -> None:
        self._policy, self._own_listener = policy, own_listener
        self._own_addresses = OwnAddresses()
        self._by_box: Count[str] = Count()
        self._names: dict[str, asyncio.Semaphore] = {}
        self.resolve: Resolve = resolve

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        box = _box_of(writer)
        if self._by_box[box] >= _PER_BOX_MAX or self._by_box.total() >= _TOTAL_MAX:
            await self._refuse(writer, Refusal(503, "Too many connections are open; close some.", "limit"))
            return
        self._by_box[box] += 1
        names = self._names.setdefault(box, asyncio.Semaphore(_NAMES_PER_BOX_MAX))
        _open.inc()
        try:
            await self._carry(reader, writer, names)
        finally:
            _open.dec()
            self._by_box[box] -= 1
            if not self._by_box[box]:
                del self._by_box[box], self._names[box]

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: asyncio.Semaphore
    ) -> None:  # fmt: skip
        upstream: asyncio.StreamWriter | None = None
        try:
            request = await _read_request(reader)
            answers, upstream = await self._dial(request.target, names)
            _requests.labels("carried").inc()
            await _begin(request, writer, upstream)
            # A plain request ends with its answer: the client may go on to keep its side open.
            await _both_ways((reader, upstream, "out"), (answers, writer, "in"), until_answered=not request.tunnel)
        except Refusal as refusal:
            _requests.labels(refusal.outcome).inc()
            await self._refuse(writer, refusal)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _requests.labels("broken").inc()
        finally:
            for side in (writer, upstream):
                if side:
                    side.close()

    async def _dial(
        self, target: Target, names: asyncio.Semaphore
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # fmt: skip
        if self._policy.is_own(target):
            try:
                return await _connect(*self._own_listener)
            except (OSError, TimeoutError) as error:
                raise Refusal(502, "Dormouse does not answer at the moment; try again.", "connect") from error
        try:
            async with names:
                addresses = await asyncio.wait_for(self.resolve(target.host, target.port), _RESOLVE_TIMEOUT_S)
        except (OSError, TimeoutError, UnicodeError, ValueError) as error:
            raise Refusal(502, f"The name {target.host!r} cannot be resolved.", "name") from error
        if not addresses:
            raise Refusal(502, f"The name {target.host!r} has no address.", "name")
        self._policy.check(target, addresses, self._own_addresses.current(time.monotonic()))
        for address in list(dict.fromkeys(addresses))[:4]:
            with contextlib.suppress(OSError, TimeoutError):
                return await _connect(str(address), target.port)
        raise Refusal(502, f"{target.host} does not answer on port {target.port}.", "connect")

    @staticmethod
    async def _refuse(writer: asyncio.StreamWriter, refusal: Refusal) -> None:
        body = f"Dormouse egress: {refusal.message}\n".encode()
        reason = {400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway"}.get(refusal.status, "Service Unavailable")
        head = (
            f"HTTP/1.1 {refusal.status} {reason}\r\nConnection: close\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(head.encode() + body)
            await asyncio.wait_for(writer.drain(), _HEAD_TIMEOUT_S)
        writer.close()


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.wait_for(asyncio.open_connection(host, port), _CONNECT_TIMEOUT_S)


async def _read_request(reader: asyncio.StreamReader) -> ProxyRequest:
    try:
        return parse_request(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_TIMEOUT_S))
    except asyncio.LimitOverrunError as error:
        raise Refusal(400, f"The head of a request may have {HEAD_BYTES_MAX} bytes.", "malformed") from error


async def _begin(request: ProxyRequest, client: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
    if request.tunnel:
        client.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await client.drain()
    else:
        upstream.write(request.head)
        await upstream.drain()


Side = tuple[asyncio.StreamReader, asyncio.StreamWriter, str]


async def _both_ways(there: Side, back: Side, *, until_answered: bool) -> None:
    """Carry bytes until both directions have ended, or (for a plain request) the answer has."""
    moved = [time.monotonic()]
    tasks = [asyncio.create_task(_pump(*side, moved)) for side in (there, back)]
    try:
        if until_answered:
            await tasks[1]
        else:
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str, moved: list[float]
) -> None:  # fmt: skip
    """One direction. `moved` is shared by both: a long download keeps its silent other half open."""
    counter = _bytes.labels(direction)
    while True:
        try:
            data = await asyncio.wait_for(reader.read(_CHUNK), _IDLE_TIMEOUT_S)
        except TimeoutError:
            if time.monotonic() - moved[0] >= _IDLE_TIMEOUT_S:
                raise
            continue
        if not data:
            break
        moved[0] = time.monotonic()
        counter.inc(len(data))
        writer.write(data)
        await asyncio.wait_for(writer.drain(), _IDLE_TIMEOUT_S)
    if writer.can_write_eof():
        writer.write_eof()


def make_proxy(settings: Settings) -> EgressProxy:
    """The proxy for these settings. Raises Invalid."""
    try:
        allowed = parse_networks(settings.egress_allow)
    except ValueError as error:
        raise Invalid(f"DORMOUSE_EGRESS_ALLOW cannot be used: {error}. Write networks like 10.1.0.0/16.") from error
    listener = (settings.local_host, settings.port)
    domains = tuple({settings.own_domain, settings.spaces_domain})
    return EgressProxy(Policy(own_port=settings.port, domains=domains, allowed=allowed), listener)


async def open_socket(proxy: EgressProxy, path: Path) -> asyncio.Server:
    """Listen where boxes of other uids can connect; what keeps others out is the folder above."""
    _clear(path)
    before = os.umask(0o111)
    try:
        return await asyncio.start_unix_server(proxy.serve, path, backlog=512, limit=HEAD_BYTES_MAX)
    finally:
        os.umask(before)


def _clear(path: Path) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    path.unlink(missing_ok=True)


async def _give_up_root() -> None:
    # Afterwards Python's own folder may be closed to us: have everything imported that names and addresses need.
    "warm.example".encode("idna")
    with contextlib.suppress(OSError):
        await resolve("localhost", 80)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_UNPRIVILEGED)
        os.setuid(_UNPRIVILEGED)
    signal_when_parent_ends(signal.SIGTERM)  # Changing the uid forgets it, so it comes last.


async def main(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. The working folder is the run folder."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_RESOLVERS))
    parent = os.getppid()
    for outcome in ("carried", "address", "port", "name", "connect", "malformed", "limit", "broken"):
        _requests.labels(outcome)
    for direction in ("out", "in"):
        _bytes.labels(direction)
    server = await open_socket(make_proxy(settings), SOCKET)
    await _give_up_root()
    if os.getppid() != parent:
        return
    if settings.egress_allow:
        log.info("egress_also_allowed", networks=settings.egress_allow)
    await stop.wait()
    server.close()
    log.debug("egress_stopped")
