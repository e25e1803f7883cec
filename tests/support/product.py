"""A whole Dormouse for tests and benchmarks: `dormouse up` as a user starts it, in a folder of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import websockets.sync.client

from tests.support.git import push_files

T = TypeVar("T")
ADMIN_TOKEN = "hf_test_admin_token_0123456789"
START_LIMIT_S = 120.0
BUILD_LIMIT_S = 420.0
SETTLED = frozenset(
    ("RUNNING", "SLEEPING", "PAUSED", "NO_APP_FILE", "CONFIG_ERROR", "BUILD_ERROR", "RUNTIME_ERROR", "MISSING")
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(what: Callable[[], T], limit_s: float, why: str, every_s: float = 0.1) -> T:
    """The first truthy result of `what` within the limit; fails naming what was waited for."""
    end = time.monotonic() + limit_s
    last: Any = None
    while time.monotonic() < end:
        try:
            last = what()
        except (httpx.HTTPError, OSError, AssertionError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(every_s)
    raise AssertionError(f"waited {limit_s:.0f} s for {why}; last seen: {last!r}")


class Product:
    """One running `dormouse up`."""

    def __init__(self, data: Path, *, port: int | None = None, **settings: str) -> None:
        self.data, self.port = data, port or free_port()
        self.lines: list[str] = []
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self.started_in_s = 0.0

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DORMOUSE_DATA": str(self.data),
            "DORMOUSE_PORT": str(self.port),
            "DORMOUSE_ADMIN_TOKEN": ADMIN_TOKEN,
            "DORMOUSE_SAMPLES": "0",
            **{f"DORMOUSE_{name.upper()}": value for name, value in self._settings.items()},
        }

    def start(self) -> "Product":
        began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", "up"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        wait_for(self._is_ready, START_LIMIT_S, "the line `ready:`\n" + "\n".join(self.lines[-50:]))
        self.started_in_s = time.monotonic() - began
        return self

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("dormouse up ended:\n" + "\n".join(self.lines[-60:]))
        return any(line.strip() == f"ready: {self.url}" for line in self.lines)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))

    def stop(self, limit_s: float = 20.0) -> int:
        """Ctrl-C; the exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError("dormouse up did not end:\n" + "\n".join(self.lines[-60:])) from None

    # --- clients ----------------------------------------------------------------------------------------------
    def api(self, method: str, path: str, *, token: str | None = ADMIN_TOKEN, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= more.pop("headers", {})
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=30, **more)

    def create(self, name: str, sdk: str = "gradio", **more: Any) -> None:
        body = {"name": name, "organization": "admin", "type": "space", "sdk": sdk, **more}
        answer = self.api("POST", "/api/repos/create", json=body)
        assert answer.status_code in (200, 409), answer.text

    def push(self, name: str, files: Mapping[str, str | bytes] | Path, *, message: str = "Change the app") -> str:
        """Commit these files (a folder, or a mapping) on top of main and push; what git printed."""
        remote = f"http://admin:{ADMIN_TOKEN}@127.0.0.1:{self.port}/spaces/admin/{name}"
        return push_files(remote, files, message=message)

    def runtime(self, name: str) -> dict[str, Any]:
        answer = self.api("GET", f"/api/spaces/admin/{name}/runtime")
        if answer.status_code == 404:
            return {"stage": "MISSING"}
        body: dict[str, Any] = answer.json()
        return body

    def wait_stage(self, name: str, *stages: str, limit_s: float = BUILD_LIMIT_S) -> dict[str, Any]:
        """Wait until the Space is in one of these stages; another settled error stage fails at once."""

        def look() -> dict[str, Any] | None:
            now = self.runtime(name)
            if now["stage"] in stages:
                return now
            if now["stage"].endswith("_ERROR") and not any(stage.endswith("_ERROR") for stage in stages):
                raise RuntimeError(f"{name} is {now}\n{self.build_log(name)}\n{self.run_log(name)}")
            return None

        return wait_for(look, limit_s, f"{name} to be {' or '.join(stages)}, now {self.runtime(name)}", 0.2) or {}

    def build_log(self, name: str) -> str:
        return self._log(name, "build")

    def run_log(self, name: str) -> str:
        return self._log(name, "run")

    def _log(self, name: str, kind: str) -> str:
        text: list[str] = []
        url = f"http://127.0.0.1:{self.port}/api/spaces/admin/{name}/logs/{kind}"
        with (
            contextlib.suppress(httpx.ReadTimeout),
            httpx.stream("GET", url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=2) as answer,
        ):
            text.extend(line for line in answer.iter_lines() if line.startswith("data: "))
        return "\n".join(text)

    def host(self, name: str) -> str:
        return f"admin-{name}.localhost"

    def app_url(self, name: str) -> str:
        return f"http://{self.host(name)}:{self.port}"

    def app(
        self, name: str, path: str = "/", *, method: str = "GET", timeout: float = 120, **more: Any
    ) -> httpx.Response:
        """A request to the app itself, by its host name, as an API client makes it."""
        headers = {"Host": f"{self.host(name)}:{self.port}", **more.pop("headers", {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, headers=headers, timeout=timeout, **more)

    def websocket(self, name: str, path: str = "/ws") -> websockets.sync.client.ClientConnection:
        """A WebSocket to the app, by its host name."""
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        url = f"ws://{self.host(name)}:{self.port}{path}"
        return websockets.sync.client.connect(url, sock=plain, open_timeout=60, proxy=None)

    def sleep(self, name: str) -> None:
        answer = self.api("POST", f"/api/spaces/admin/{name}/sleep")
        assert answer.status_code < 300, answer.text
        wait_for(lambda: self.runtime(name)["stage"] == "SLEEPING", 40, f"{name} to sleep")

    def children(self) -> dict[str, int]:
        """Process ids of the supervised children by name."""
        rows = json.loads((self.data / "run" / "children.json").read_text())
        rows = rows["children"] if isinstance(rows, dict) and "children" in rows else rows
        return {row["name"]: row["pid"] for row in rows if row.get("pid")}


@contextlib.contextmanager
def running(data: Path, **settings: str) -> Iterator[Product]:
    product = Product(data, **settings).start()
    try:
        yield product
    finally:
        product.stop()
