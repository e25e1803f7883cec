"""What a builder needs around it: a git server, an internal API on a Unix socket, a data folder. All real but the API,
which only writes down what it is told and answers as it is told to."""

import base64
import contextlib
import http.server
import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.adapters.reporter import InternalApi
from builder.contract import CONTRACT_VERSION, BuildOrder
from builder.settings import Settings
from builder.tasks import Builder
from builder.worker import make_tools
from tests.support.git import _put, git
from tests.support.product import wait_for

TOKEN = "build-token-of-a-test"


class GitServer:
    """`git http-backend` behind basic auth, for the repositories of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refuse = 0
        """How many of the next requests get 503."""
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                world._answer(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if self.refuse:
            self.refuse -= 1
            request.send_error(503)
            return
        expected = base64.b64encode(f"build:{TOKEN}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            request.send_error(401)
            return
        path, _, query = request.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        request.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


@dataclass
class Heard:
    """What the internal API was told about one build."""

    leases: int = 0
    phases: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class FakeInternalApi:
    """Takes reports. `over` answers 409 to everything about these builds, from the named call on."""

    def __init__(self, path: Path) -> None:
        self.builds: dict[str, Heard] = {}
        self.over: set[str] = set()
        self.over_after_phase: dict[str, str] = {}
        self.fail_next = 0
        self.tokens: set[str] = set()
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                status = world._hear(self)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *_: object) -> None:
                pass

        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._lock = threading.Lock()
        self._server = _UnixServer(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def heard(self, build_id: str) -> Heard:
        with self._lock:
            return self.builds.setdefault(build_id, Heard())

    def _hear(self, request: http.server.BaseHTTPRequestHandler) -> int:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        _, _, _, build_id, what = request.path.partition("?")[0].split("/")
        heard = self.heard(build_id)
        with self._lock:
            self.tokens.add(request.headers.get("Authorization", ""))
            if self.fail_next:
                self.fail_next -= 1
                return 503
            if build_id in self.over:
                return 409
            return self._note(build_id, heard, what, body)

    def _note(self, build_id: str, heard: Heard, what: str, body: dict[str, Any]) -> int:
        if what == "lease":
            heard.leases += 1
        elif what == "phase":
            heard.phases.append(body["phase"])
            if self.over_after_phase.get(build_id) == body["phase"]:
                self.over.add(build_id)
        elif what == "log":
            assert body["first"] <= len(heard.lines), "a gap in the log"
            heard.lines[body["first"] :] = [text for _, text in body["lines"]]
        elif what == "result":
            heard.result = body
        return 204


class World:
    """A builder with everything around it."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root, self.data = root, root / "data"
        self.repositories = root / "repositories"
        self.repositories.mkdir(parents=True)
        # Paths of sockets must stay short, whatever the folder of the test is called.
        self._sockets = Path(tempfile.mkdtemp(prefix="dormouse-"))
        self.data.mkdir(parents=True)
        (self.data / "run").symlink_to(self._sockets)
        self.git = GitServer(self.repositories)
        self.internal = FakeInternalApi(self._sockets / "internal.sock")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "DORMOUSE_"))}
        self.settings = Settings(**{"data": self.data, "build_lease_s": 1.5, "environ": environ, **settings})
        self.api = InternalApi(str(self._sockets / "internal.sock"))
        self.builder = Builder(make_tools(self.settings)[0], self.api, "test-worker")

    def close(self) -> None:
        self.builder.stop()
        self.git.close()
        self.internal.close()
        self.api.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def commit(
        self, space: str, files: Mapping[str, str | bytes] | Path, *, links: Mapping[str, str] | None = None
    ) -> str:
        """Make a commit of exactly these files; its id."""
        bare, work = self.repositories / f"{space}.git", self.root / "work" / space
        if not bare.exists():
            git("init", "-q", "--bare", "-b", "main", str(bare), cwd=self.root)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        git("init", "-q", "-b", "main", cwd=work)
        _put(work, files)
        for path, target in (links or {}).items():
            (work / path).symlink_to(target)
        git("add", "-A", cwd=work)
        git("commit", "-q", "--allow-empty", "-m", "test", cwd=work)
        git("push", "-q", "-f", str(bare), "main", cwd=work)
        return git("rev-parse", "HEAD", cwd=work).strip()

    def order(self, space: str, sha: str, *, owner: str = "owner-1", factory: bool = False) -> BuildOrder:
        return BuildOrder(
            version=CONTRACT_VERSION,
            build_id=uuid.uuid4().hex,
            space_id=space,
            space=f"ann/{space}",
            owner_id=owner,
            sha=sha,
            repository_url=f"{self.git.url}/{space}.git",
            token=TOKEN,
            factory=factory,
        )

    def build(self, space: str, files: Mapping[str, str | bytes] | Path, **more: Any) -> "Built":
        """Commit these files and build them."""
        links = more.pop("links", None)
        return self.carry_out(self.order(space, self.commit(space, files, links=links), **more))

    def carry_out(self, order: BuildOrder) -> "Built":
        started = time.monotonic()
        self.builder.build(order)
        return Built(self, order, self.internal.heard(order.build_id), time.monotonic() - started)


@dataclass
class Built:
    """What came of an order."""

    world: World
    order: BuildOrder
    heard: Heard
    took_s: float

    @property
    def image(self) -> dict[str, Any]:
        assert self.heard.result, "no result was reported"
        assert self.heard.result["image"], self.heard.result["failure"]
        image: dict[str, Any] = self.heard.result["image"]
        return image

    @property
    def failure(self) -> dict[str, Any]:
        assert self.heard.result, "no result was reported"
        assert self.heard.result["failure"], "the build succeeded"
        failure: dict[str, Any] = self.heard.result["failure"]
        return failure

    @property
    def log(self) -> str:
        return "\n".join(self.heard.lines)

    @property
    def environment(self) -> Path:
        return self.world.data / self.image["environment"]

    @property
    def snapshot(self) -> Path:
        return self.world.data / self.image["snapshot"]

    def site_packages(self) -> Path:
        return next(self.environment.glob("lib/python3*/site-packages"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def app_running(built: Built, more: Mapping[str, str] | None = None) -> Iterator[int]:
    """The built app as a plain process, on a free port."""
    port = free_port()
    python = str(built.environment / "bin" / "python")
    command = [word.replace("{python}", python) for word in built.image["command"]]
    command = [str(port) if word == "7860" else word for word in command]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(built.world.root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "STREAMLIT_SERVER_PORT": str(port),
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
        **(more or {}),
    }
    process = subprocess.Popen(command, cwd=built.snapshot, env=environment, start_new_session=True)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def egress_running(world: World) -> Iterator[None]:
    """The real way out for boxes, which here may lead anywhere: the package index of a test machine may be local."""
    run = world.data / "run"
    (run / "egress").mkdir(exist_ok=True)
    environment = {**os.environ, "DORMOUSE_DATA": str(world.data), "DORMOUSE_EGRESS_ALLOW": "0.0.0.0/0,::/0"}
    process = subprocess.Popen([sys.executable, "-m", "orchestrator", "egress"], cwd=run, env=environment)
    try:
        wait_for((run / "egress" / "egress.sock").exists, 20, "the egress proxy")
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)
