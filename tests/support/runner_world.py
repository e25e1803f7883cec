"""A real runner and egress proxy in a data folder of their own, and small apps to run in them."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.adapters.runtimes.process import ProcessRuntime
from orchestrator.errors import Unavailable
from orchestrator.ports.runtime import Observed, ReplicaSpec

ROOT = Path(__file__).parents[2]
ORDINARY = 12345
LIMIT_S = 20.0

SERVE = """
import http.server, json, os, sys
report = {}

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps(handle(self)).encode() if "handle" in globals() else json.dumps(report).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

def attempt(name, call):
    try:
        report[name] = repr(call())
    except BaseException as error:
        report[name] = type(error).__name__ + ":" + str(getattr(error, "errno", ""))

def serve(port=7860):
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""

UVICORN = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = os.environ.get("GREETING", "hello").encode() + b" %d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
UVICORN_COMMAND = ["{python}", "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", "7860"]
PLAIN_COMMAND = ["{python}", "app.py"]


async def until(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """Wait for a condition, plain or awaitable."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def interpreter_for(uid: int) -> str | None:
    """A Python of our version that this user can run."""
    own = os.path.realpath(sys.executable)
    version = f"import sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    for candidate in (own, "/usr/bin/python3"):
        command = [candidate, "-c", version]
        drop = {"user": uid, "group": uid, "extra_groups": []} if uid != os.geteuid() else {}
        with contextlib.suppress(OSError):
            if subprocess.run(command, capture_output=True, check=False, cwd="/", **drop).returncode == 0:
                return candidate
    return None


def make_environment(folder: Path, interpreter: str) -> None:
    """A small virtual environment with uvicorn, without an installer."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(interpreter)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\n")
    packages = folder / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    for name in ("uvicorn", "h11", "click"):
        source = Path(__import__(name).__file__).parent
        shutil.copytree(source, packages / name, ignore=shutil.ignore_patterns("__pycache__"))


class RunnerWorld:
    """One installation as far as apps are concerned."""

    def __init__(self, uid: int, settings: dict[str, str] | None = None) -> None:
        interpreter = interpreter_for(uid)
        assert interpreter
        self.uid, self.interpreter = uid, interpreter
        self.data = Path(tempfile.mkdtemp(prefix="dm"))
        self.run = self.data / "run"
        self.port = free_port()
        self._settings = settings or {}
        self._number = 0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.run.mkdir()
        make_environment(self.data / "environments" / "e", interpreter)
        self._own(self.data)
        self.runtime = ProcessRuntime(self.run / "runner.sock")

    def _own(self, folder: Path) -> None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.uid, self.uid, follow_symlinks=False)

    # --- processes --------------------------------------------------------------------------------------------
    def environment(self) -> dict[str, str]:
        paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.data), "PYTHONPATH": ":".join(paths),
            "DORMOUSE_DATA": str(self.data), "DORMOUSE_PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": "1",
            **self._settings,
        }  # fmt: skip

    def popen(self, *arguments: str) -> "subprocess.Popen[bytes]":
        drop = {"user": self.uid, "group": self.uid, "extra_groups": []} if self.uid != os.geteuid() else {}
        with (self.data / "processes.log").open("ab") as output:
            return subprocess.Popen(
                [self.interpreter, *arguments], cwd=self.run, env=self.environment(), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, umask=0o022, **drop,
            )  # fmt: skip

    async def start(self, *names: str) -> None:
        for name in names:
            self.processes[name] = self.popen("-m", "orchestrator", name)
        if "runner" in names:
            await until(self.answers, "the runner answers")
        if "egress" in names:
            await until((self.run / "egress" / "egress.sock").exists, "the proxy listens")

    async def answers(self) -> bool:
        runner = self.processes.get("runner")
        assert not runner or runner.poll() is None, (self.data / "processes.log").read_text()
        try:
            await self.runtime.list()
        except Unavailable:
            return False
        return True

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(15)

    def close(self) -> None:
        for name in list(self.processes):
            self.end(name)
        print((self.data / "processes.log").read_text())  # Shown by pytest where a test fails.
        left = self.box_processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.data, ignore_errors=True)
        assert not left, "processes of boxes were left over"

    def box_processes(self) -> list[int]:
        """Processes whose command line names a box of this installation."""
        import hashlib

        marker = f"box={hashlib.sha256(bytes(self.data.resolve())).hexdigest()[:10]}/".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if marker in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    # --- apps -------------------------------------------------------------------------------------------------
    def spec(self, code: str, *, command: list[str] | None = None, files: dict[str, str] | None = None, **changes: Any):
        """A replica of a new Space with this app.py."""
        self._number += 1
        name = f"{self._number}-{time.monotonic_ns()}"
        snapshot = self.data / "snapshots" / f"space-{name}" / "sha"
        snapshot.mkdir(parents=True)
        for file, text in {"app.py": code, **(files or {})}.items():
            (snapshot / file).write_text(text)
        self._own(self.data / "snapshots")
        return ReplicaSpec(
            **{
                "replica_id": f"replica-{name}", "space_id": f"space-{name}", "space": "owner/name",
                "image": {
                    "snapshot": str(snapshot.relative_to(self.data)), "environment": "environments/e",
                    "command": command or (UVICORN_COMMAND if code is UVICORN else PLAIN_COMMAND), "port": 7860,
                },
                "start_timeout_s": LIMIT_S, "disk_mb": 64, **changes,
            }
        )  # fmt: skip

    async def observed(self, replica_id: str) -> Observed:
        return next(seen for seen in await self.runtime.list() if seen.replica_id == replica_id)

    async def reach(self, spec: ReplicaSpec, state: str) -> Observed:
        """Start it if it is new, and wait until it is in that state."""
        await self.runtime.start(spec)

        async def there() -> Observed | None:
            seen = await self.observed(spec.replica_id)
            assert state == "ended" or seen.state != "ended", f"{seen.reason}: {seen.detail} {self.log(spec)[-5:]}"
            return seen if seen.state == state else None

        return await until(there, f"{spec.replica_id} is {state}")

    async def report(self, spec: ReplicaSpec) -> Any:
        """Start the app and return what it answers."""
        seen = await self.reach(spec, "ready")
        return json.loads((await self.get(seen.address))[1])

    async def get(self, address: str, path: str = "/", body: bytes = b"") -> tuple[int, bytes]:
        return await http(self.run / address.removeprefix("unix:"), path, body)

    def log(self, spec: ReplicaSpec) -> list[str]:
        path = self.log_path(spec)
        return [json.loads(line)["m"] for line in path.read_text().splitlines()] if path.exists() else []

    def log_path(self, spec: ReplicaSpec) -> Path:
        return self.data / "logs" / "runs" / spec.space_id / f"{spec.replica_id}.ndjson"


async def http(path: Path, target: str = "/", body: bytes = b"", head: str = "") -> tuple[int, bytes]:
    """One request over a Unix socket: status and body."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        method = "POST" if body else "GET"
        writer.write(
            f"{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n{head}\r\n".encode()
        )
        writer.write(body)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), LIMIT_S)
    finally:
        writer.close()
    head_bytes, _, content = answer.partition(b"\r\n\r\n")
    return int(head_bytes.split(b" ")[1]) if head_bytes else 0, content


def users() -> Iterator[str]:
    """Kinds of users the sandbox is tried as."""
    yield "own"
    if os.geteuid() == 0:
        yield "ordinary"


def uid_of(user: str) -> int:
    return ORDINARY if user == "ordinary" else os.geteuid()
