"""A gateway with everything around it: real Envoy, the agent as a process, a control plane and apps made here."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from orchestrator.gateway.commands import envoy_command
from orchestrator.settings import Settings

ROOT = Path(__file__).parents[2]


async def until(condition: Callable[[], Any], limit_s: float = 10.0, what: str = "") -> Any:
    """Wait for a condition (plain or awaitable); fails after the limit."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"not within {limit_s} s: {what or condition}"
        await asyncio.sleep(0.01)


@dataclass
class FakeSpace:
    """What the control plane says about one host."""

    answer: str = "wait"
    stage: str = "SLEEPING"
    title: str = ""
    message: str = ""
    on_wake: Callable[["FakeControl", str, dict[str, Any]], Awaitable[None]] | None = None
    opens: str = ""
    """The one credential that opens it; empty for a public Space."""
    every_time: bool = False
    """Call `on_wake` for each question, not for the first only."""
    wakes: list[dict[str, Any]] = field(default_factory=list)
    asking: int = 0
    asking_most: int = 0


class FakeControl:
    """The internal API, gateway part."""

    def __init__(self) -> None:
        self.generation = 0
        self.routes: dict[str, dict[str, Any]] = {}
        self.spaces: dict[str, FakeSpace] = {}
        self.away = False
        self.refused = 0
        """Visits of private Spaces that nothing opened."""
        self.acked = -1
        self.quiet: dict[str, int] = {}
        self.active: dict[str, float] = {}
        self.moved: dict[str, float] = {}
        self.connections = 0
        self._streams: set[asyncio.Queue[dict[str, Any]]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/internal/gateways/{id}/routes", self._routes)
        app.router.add_post("/internal/gateways/{id}/report", self._report)
        app.router.add_post("/internal/wake", self._wake)
        return app

    def change(self, host: str, mode: str, address: str = "") -> int:
        self.generation += 1
        private = host in self.spaces and bool(self.spaces[host].opens)
        row = {
            "host": host,
            "mode": mode,
            "address": address,
            "generation": self.generation,
            "space_id": "s",
            "private": private,
        }
        if mode == "gone":
            self.routes.pop(host, None)
        else:
            self.routes[host] = row
        for queue in self._streams:
            queue.put_nowait({"full": False, "generation": self.generation, "routes": [row]})
        return self.generation

    async def in_force(self, generation: int) -> None:
        await until(lambda: self.acked >= generation, what=f"generation {generation} in force")

    async def serve(self, host: str, address: str) -> int:
        generation = self.change(host, "serve", address)
        await self.in_force(generation)
        return generation

    def cut(self) -> None:
        for queue in self._streams:
            queue.put_nowait({})

    async def _routes(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            raise web.HTTPServiceUnavailable
        answer = web.StreamResponse()
        await answer.prepare(request)
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._streams.add(queue)
        self.connections += 1
        line: dict[str, Any] = {"full": True, "generation": self.generation, "routes": list(self.routes.values())}
        try:
            while line:
                await answer.write(json.dumps(line).encode() + b"\n")
                try:
                    line = await asyncio.wait_for(queue.get(), 2)
                except TimeoutError:
                    line = {"full": False, "generation": self.generation, "routes": []}
        finally:
            self._streams.discard(queue)
        return answer

    async def _report(self, request: web.Request) -> web.Response:
        if self.away:
            raise web.HTTPServiceUnavailable
        data = await request.json()
        self.acked = self.acked if data["acked"] is None else data["acked"]
        self.quiet = data["quiet"]
        self.active.update(data["active"])
        self.moved.update(data["moved"])
        return web.Response(status=204)

    async def _wake(self, request: web.Request) -> web.Response:
        if self.away:
            raise web.HTTPServiceUnavailable
        data = await request.json()
        host = data["host"]
        space = self.spaces.get(host)
        shown = data["credentials"]
        if space is None or (space.opens and space.opens not in shown):
            self.refused += space is not None
            return web.json_response({"answer": "missing", "stage": "", "space": "", "message": ""})
        space.asking += 1
        space.asking_most = max(space.asking, space.asking_most)
        try:
            await asyncio.sleep(0.02)
            if space.on_wake and (space.every_time or not space.wakes):
                task = asyncio.create_task(space.on_wake(self, host, data))
                self._tasks.add(task)
            space.wakes.append(data)
        finally:
            space.asking -= 1
        route = self.routes.get(host)
        serving = route is not None and route["mode"] == "serve" and not data["dead"]
        return web.json_response(
            {
                "answer": "serve" if serving else space.answer,
                "stage": space.stage,
                "space": "ann/demo",
                "title": space.title,
                "message": space.message,
                "file": "README.md" if space.stage == "CONFIG_ERROR" else None,
                "line": 3 if space.stage == "CONFIG_ERROR" else None,
                "page": "http://localhost/spaces/ann/demo",
                "retry_after_s": 5,
                "private": bool(space.opens),
                "opened_by": shown.index(space.opens) if space.opens else None,
            }
        )


def app_app(name: str, status: Callable[[web.Request], Awaitable[web.Response]] | None = None) -> web.Application:
    """An app that says what it got."""

    async def echo(request: web.Request) -> web.Response:
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        headers: dict[str, list[str]] = {}
        for key, value in request.headers.items():
            headers.setdefault(key.lower(), []).append(value)
        return web.json_response(
            {"app": name, "method": request.method, "path": request.raw_path, "size": size, "headers": headers}
        )

    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        count, pause = int(request.query.get("n", "3")), float(request.query.get("pause", "0.05"))
        for number in range(count):
            await answer.write(f"data: {number}\n\n".encode())
            await asyncio.sleep(pause)
        return answer

    async def socket_echo(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        async for message in answer:
            await answer.send_str(f"{name}:{message.data}")
        return answer

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query["s"]))
        return web.json_response({"app": name})

    app = web.Application(client_max_size=1 << 30)
    if status:
        app.router.add_get("/.dormouse/status", status)
    app.router.add_get("/events", events)
    app.router.add_get("/ws", socket_echo)
    app.router.add_get("/slow", slow)
    app.router.add_route("*", "/{rest:.*}", echo)
    return app


class World:
    """Starts and stops the parts; one per test module."""

    def __init__(self, **overrides: Any) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="dm-gw-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        defaults: dict[str, Any] = {
            "hold_timeout_s": 6.0,
            "activity_interval_s": 0.2,
            "hold_requests_max": 240,
            "idle_tab_s": 2,
        }
        self.settings = Settings(data=self.data, port=port, **(defaults | overrides))
        self.run = self.settings.run
        (self.run / "apps").mkdir(parents=True)
        self.control = FakeControl()
        self.counts: Counter[str] = Counter()
        self._runners: dict[str, web.AppRunner] = {}
        self._children: dict[str, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        await self.listen("internal.sock", self.control.app())
        await self.listen("api.sock", self.api())
        await self.start_agent()
        await self.start_envoy()

    def api(self) -> web.Application:
        """The public API, as far as a gateway's visitors meet it."""
        return app_app("api", status=self._status)

    async def _status(self, request: web.Request) -> web.Response:
        host = request.host.partition(":")[0]
        space, serving = self.control.spaces.get(host), host in self.control.routes
        stage = "RUNNING" if serving else space.stage if space else "NONE"
        known = {
            "stage": stage,
            "phase": "starting",
            "detail": "Warming up.",
            "message": space.message if space else "",
        }
        return web.json_response(
            {"app": "api", **known, "serving": serving, "eta_s": 2.0, "elapsed_s": 0.5, "log": ["first line"]}
        )

    async def listen(self, path: str, app: web.Application) -> None:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(self.run / path)).start()
        self._runners[path] = runner

    async def unlisten(self, path: str) -> None:
        await self._runners.pop(path).cleanup()

    async def start_app(self, name: str) -> str:
        """Start an app of its own; returns the address for the route."""
        await self.listen(f"apps/{name}.sock", app_app(name))
        return f"unix:apps/{name}.sock"

    async def start_tcp_app(self, name: str) -> str:
        """The same on a port."""
        runner = web.AppRunner(app_app(name), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._runners[name] = runner
        return f"tcp:127.0.0.1:{runner.addresses[0][1]}"

    async def wake_with(self, control: FakeControl, host: str, delay_s: float = 0.3) -> None:
        self.counts[host] += 1
        await asyncio.sleep(delay_s)
        address = await self.start_app(f"{host.split('.', maxsplit=1)[0]}-{self.counts[host]}")
        control.change(host, "serve", address)

    def sleeper(self, name: str, **fields: Any) -> str:
        """A Space that wakes when it is asked for; returns its host."""
        host = f"{name}.localhost"
        self.control.spaces[host] = FakeSpace(on_wake=lambda c, h, _d: self.wake_with(c, h), **fields)
        return host

    async def start_agent(self) -> None:
        code = (
            "import asyncio; from orchestrator.settings import load; from orchestrator.gateway.main import main; "
            "asyncio.run(main(load()))"
        )
        names = ("data", "port", "hold_timeout_s", "activity_interval_s", "hold_requests_max", "idle_tab_s")
        variables = {f"DORMOUSE_{name.upper()}": str(getattr(self.settings, name)) for name in names}
        (self.run / "xds.sock").unlink(missing_ok=True)
        await self._spawn("agent", [sys.executable, "-c", code], {"PYTHONPATH": str(ROOT), **variables})
        await until((self.run / "xds.sock").exists, what="the agent listens")

    async def start_envoy(self) -> None:
        await self._spawn("envoy", envoy_command(self.settings, self.run), {})
        await until(self._envoy_answers, limit_s=20, what="Envoy answers")

    async def _envoy_answers(self) -> bool:
        with contextlib.suppress(OSError):
            _reader, writer = await asyncio.open_connection("127.0.0.1", self.settings.port)
            writer.close()
            return True
        return False

    async def _spawn(self, name: str, command: list[str], variables: dict[str, str]) -> None:
        log = (self.run / f"{name}.log").open("ab")
        self._children[name] = await asyncio.create_subprocess_exec(
            *command, cwd=self.run, stdout=log, stderr=log, env={**os.environ, **variables}
        )

    async def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        child = self._children.pop(name)
        child.send_signal(number)
        await child.wait()

    async def stop(self) -> None:
        for name in list(self._children):
            await self.kill(name, signal.SIGTERM if name == "agent" else signal.SIGKILL)
        for path in list(self._runners):
            await self.unlisten(path)
        for path in self.run.glob("*.log"):
            print(f"--- {path.name}\n{path.read_text()[-6000:]}")
        shutil.rmtree(self.data)

    def client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            base_url=f"http://127.0.0.1:{self.settings.port}", timeout=aiohttp.ClientTimeout(total=20)
        )
