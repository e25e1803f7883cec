"""The way out of a box: to the public internet and to Dormouse's own listener, and nowhere else."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.runner_world import SERVE, RunnerWorld, interpreter_for, uid_of, until, users

FETCH = (
    SERVE
    + """
import http.client, socket, urllib.error, urllib.request
def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]
    except (OSError, http.client.HTTPException) as error:
        return [0, repr(error)]
def tunnel(target):
    with socket.create_connection(("127.0.0.1", 3128), 10) as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
        return [int(connection.recv(4096).split(b" ")[1]), ""]
def direct(target):
    try:
        socket.create_connection(tuple(target), 3).close()
        return [1, "connected"]
    except OSError as error:
        return [0, error.errno]
def handle(self):
    import urllib.parse
    kind, target = json.loads(urllib.parse.unquote(self.path[1:]) or '["", ""]')
    return {"fetch": fetch, "tunnel": tunnel, "direct": direct}.get(kind, lambda _: None)(target)
serve()
"""
)


class Inside:
    """An app in a box that can be asked to go somewhere."""

    def __init__(self, world: RunnerWorld, address: str) -> None:
        self._world, self._address = world, address

    async def go(self, kind: str, target: object) -> list[object]:
        from urllib.parse import quote

        path = "/" + quote(json.dumps([kind, target]), safe="")
        return json.loads((await self._world.get(self._address, path))[1])


@pytest.fixture(scope="module", params=list(users()))
def world(request: pytest.FixtureRequest) -> Iterator[RunnerWorld]:
    if interpreter_for(uid_of(request.param)) is None:
        pytest.skip("no Python of this version that an ordinary user can run")
    made = RunnerWorld(uid_of(request.param), {"DORMOUSE_EGRESS_ALLOW": "127.77.0.0/16"})
    try:
        asyncio.run(made.start("runner", "egress"))
        if asyncio.run(made.runtime.isolation()).level == "none":
            pytest.skip("no sandbox on this machine")
        yield made
    finally:
        made.close()


@pytest.fixture
async def inside(world: RunnerWorld) -> AsyncIterator[Inside]:
    spec = world.spec(FETCH)
    yield Inside(world, (await world.reach(spec, "ready")).address)
    await world.runtime.stop(spec.replica_id, 0.5)


@contextlib.asynccontextmanager
async def server(address: str, port: int) -> AsyncIterator[list[bytes]]:
    """Something outside that notes what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, address, port)
    try:
        yield asked
    finally:
        listener.close()


REFUSED = [
    "127.0.0.1", "localhost.", "127.1", "0x7f.1", "0", "2130706433", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fe80::1]",
]  # fmt: skip


async def test_this_machine_and_private_networks_are_refused(inside: Inside) -> None:
    for host in REFUSED:
        status, _ = await inside.go("tunnel", f"{host}:443")
        assert status in (403, 502), host


async def test_refusals_say_why(inside: Inside) -> None:
    status, text = await inside.go("fetch", "http://169.254.169.254/latest/meta-data")
    assert status == 403
    assert "not on the public internet" in str(text)
    assert "DORMOUSE_EGRESS_ALLOW" in str(text)
    assert (await inside.go("fetch", "http://no-such-name.invalid/"))[0] == 502


async def test_without_the_proxy_there_is_no_network(inside: Inside) -> None:
    for target in (["1.1.1.1", 443], ["169.254.169.254", 80], ["10.0.0.1", 80]):
        assert await inside.go("direct", target) == [0, 101]


async def test_the_listener_of_dormouse_is_reached_by_its_name(world: RunnerWorld, inside: Inside) -> None:
    async with server("127.0.0.1", world.port) as asked:
        assert await inside.go("fetch", f"http://dormouse.internal:{world.port}/api/x?y=1") == [200, "hello"]
        assert asked[0].startswith(b"GET /api/x?y=1 HTTP/1.1\r\n")
        assert f"Host: dormouse.internal:{world.port}\r\n".encode() in asked[0]
        assert (await inside.go("tunnel", f"dormouse.internal:{world.port}"))[0] == 200
        assert (await inside.go("tunnel", f"127.0.0.1:{world.port}"))[0] == 403
        assert (await inside.go("tunnel", "dormouse.internal:22"))[0] in (403, 502)
    assert (await inside.go("fetch", f"http://dormouse.internal:{world.port}/"))[0] == 502


async def test_networks_named_by_the_administrator_are_open(inside: Inside) -> None:
    listener = await asyncio.start_server(lambda _r, w: w.close(), "127.77.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    assert (await inside.go("tunnel", f"127.77.0.1:{port}"))[0] == 200
    assert (await inside.go("tunnel", f"127.78.0.1:{port}"))[0] == 403
    listener.close()


async def test_a_proxy_that_is_restarted_is_found_again(world: RunnerWorld, inside: Inside) -> None:
    world.end("egress", signal.SIGKILL)
    assert (await inside.go("fetch", "http://127.77.0.9/"))[0] == 0
    await world.start("egress")

    async def back() -> bool:
        return (await inside.go("fetch", "http://10.0.0.1/"))[0] == 403

    await until(back, "the proxy answers again")


async def test_no_way_out_means_none(world: RunnerWorld) -> None:
    spec = world.spec(
        SERVE + "report['folder'] = os.path.exists('/run/egress')\n"
        "report['proxy'] = [n for n in os.environ if 'proxy' in n.lower()]\n"
        "import socket\nattempt('connect', lambda: socket.create_connection(('127.0.0.1', 3128)))\nserve()\n",
        egress="none",
    )
    assert await world.report(spec) == {"folder": False, "proxy": [], "connect": "ConnectionRefusedError:111"}


async def test_the_proxy_of_root_has_given_up_its_rights(world: RunnerWorld) -> None:
    pid = world.processes["egress"].pid
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()  # noqa: ASYNC240
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    assert status["CapEff"].strip().strip("0") == ""
    uid = int(status["Uid"].split()[0])
    assert uid == (world.uid or 65534)
    assert os.geteuid() != uid or world.uid == os.geteuid()


async def test_one_space_cannot_use_up_all_connections(world: RunnerWorld) -> None:
    code = (
        SERVE
        + """
import socket, time
open_ones = [socket.socket(socket.AF_UNIX) for _ in range(400)]
for one in open_ones:
    one.settimeout(10); one.connect("/run/egress/egress.sock")
def refused(one):
    one.setblocking(False)
    try:
        return one.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 503"
    except BlockingIOError:
        return False
end = time.monotonic() + 15
while sum(map(refused, open_ones)) < 144 and time.monotonic() < end:
    time.sleep(0.05)
report["refused"] = sum(map(refused, open_ones))
serve()
"""
    )
    assert (await world.report(world.spec(code)))["refused"] == 400 - 256
    neighbour = Inside(world, (await world.reach(world.spec(FETCH), "ready")).address)
    assert (await neighbour.go("fetch", "http://10.0.0.1/"))[0] == 403
