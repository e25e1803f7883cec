"""The api process: the public application and the internal API, each on a Unix socket of its own."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from orchestrator.bootstrap import connect
from orchestrator.settings import Settings
from orchestrator.web.app import create_app
from orchestrator.web.context import Context
from orchestrator.web.internal.app import create_internal_app

PUBLIC_SOCKET, INTERNAL_SOCKET = "api.sock", "internal.sock"
BACKLOG = 2048
SHUTDOWN_S = 3


class _Server(uvicorn.Server):
    """Two servers share one loop, so neither may catch signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def main(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    parts = connect(settings)
    context = Context(
        settings=settings,
        store=parts.store,
        repositories=parts.repositories,
        logs=parts.logs,
        signals=parts.signals,
        vault=parts.vault,
        build_queue=parts.build_queue,
        runtime=parts.runtime,
    )
    servers = [_server(create_app(context)), _server(create_internal_app(context))]
    sockets = [_listen(PUBLIC_SOCKET), _listen(INTERNAL_SOCKET)]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await asyncio.gather(*(server.serve([sock]) for server, sock in zip(servers, sockets, strict=True)))


def _server(app: FastAPI) -> _Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips="*",  # Only the gateway reaches the socket, and it strips what visitors send.
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=65,
    )
    return _Server(config)


def _listen(name: str) -> socket.socket:
    """A listening socket in the working folder, for this user only."""
    path = Path(name)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(name)
    path.chmod(0o600)
    listener.listen(BACKLOG)
    return listener
