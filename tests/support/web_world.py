"""The web application as a process would serve it: real database, real git, real sockets; only the workers are away."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from builder.contract import BuildOrder
from orchestrator.adapters.database import migrate, open_store
from orchestrator.adapters.git import GitRepositories
from orchestrator.adapters.logs import FileLogs
from orchestrator.adapters.vault import FernetVault
from orchestrator.domain.names import parse_space_name
from orchestrator.domain.space import Space, User
from orchestrator.flows.create_space import create_space
from orchestrator.settings import Settings
from orchestrator.web import auth
from orchestrator.web.app import create_app
from orchestrator.web.context import Context
from orchestrator.web.internal.app import create_internal_app


class Silence:
    """Signals that nobody hears."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def send(self, channel: str, payload: str = "") -> None:
        self.sent.append((channel, payload))

    def send_soon(self, channel: str, payload: str = "") -> None:
        self.sent.append((channel, payload))

    async def listen(self, *channels: str) -> AsyncIterator[tuple[str, str]]:
        await asyncio.Event().wait()
        yield "", ""


@dataclass
class Queue:
    orders: list[BuildOrder] = field(default_factory=list)

    def send(self, order: BuildOrder) -> None:
        self.orders.append(order)

    def workers(self) -> int:
        return 1


def make_context(data: Path, **settings: object) -> Context:
    """Everything real that needs no other process."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "run").mkdir(exist_ok=True)
    migrate(data / "dormouse.db")
    return Context(
        settings=Settings(data=data, **settings),  # type: ignore[arg-type]
        store=open_store(data / "dormouse.db"),
        repositories=GitRepositories(data),
        logs=FileLogs(data),
        signals=Silence(),
        vault=FernetVault(data / "key"),
        build_queue=Queue(),
        runtime=None,
    )


@dataclass
class WebWorld:
    """A served application with two users: ann, and bob who owns nothing; root is the admin."""

    context: Context
    url: str
    tokens: dict[str, str] = field(default_factory=dict)
    app: FastAPI | None = None
    """The served application, for a look at what it holds."""

    def user(self, name: str, *, admin: bool = False) -> User:
        user = self.context.store.create_user(name, is_admin=admin, now=time.time())
        self.tokens[name] = auth.issue_token(self.context, user, label="test", role="write")[1]
        return user

    def token(self, name: str, *, role: str) -> str:
        user = self.context.store.find_user(name)
        assert user is not None
        return auth.issue_token(self.context, user, label="test", role=role)[1]

    def create(self, name: str, *, sdk: str = "gradio", visibility: str = "public") -> Space:
        parsed = parse_space_name(name)
        user = self.context.store.find_user(parsed.owner)
        assert user is not None
        return create_space(self.context, user, parsed, sdk=sdk, visibility=visibility, now=time.time())

    def space(self, name: str) -> Space:
        space = self.context.store.find_space(parse_space_name(name))
        assert space is not None
        return space

    def remote(self, name: str, user: str = "", token: str = "") -> str:
        """Address for git, with credentials if `user` or `token` is given."""
        secret = token or self.tokens.get(user, "")
        address = f"{self.url}/spaces/{name}"
        return address.replace("http://", f"http://anyone:{secret}@") if secret else address


@contextlib.contextmanager
def web_world(**settings: object) -> Iterator[WebWorld]:
    """Serve the public application on a port of its own and the internal one on its socket."""
    folder = Path(tempfile.mkdtemp(prefix="dw-"))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    context = make_context(folder, port=port, domain="localhost", **settings)
    public, internal = create_app(context), create_internal_app(context)
    servers = [
        uvicorn.Server(uvicorn.Config(public, log_config=None, timeout_graceful_shutdown=1)),
        uvicorn.Server(
            uvicorn.Config(internal, log_config=None, uds=str(folder / "run" / "internal.sock"), lifespan="on")
        ),
    ]

    async def serve() -> None:
        await asyncio.gather(servers[0].serve([listener]), servers[1].serve())

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not all(server.started for server in servers):
            assert time.monotonic() < deadline, "the servers did not start"
            time.sleep(0.01)
        world = WebWorld(context, f"http://127.0.0.1:{port}", app=public)
        world.user("root", admin=True)
        world.user("ann")
        world.user("bob")
        yield world
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)
