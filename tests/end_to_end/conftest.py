"""One running Dormouse for all end-to-end tests that do not break it; apps small enough to build in a moment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.product import Product, running

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

ASGI_APP = """
import asyncio

VERSION = "{version}"


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        while (message := await receive())["type"] == "websocket.receive":
            await send({{"type": "websocket.send", "text": "echo " + (message.get("text") or "")}})
        return
    if scope["type"] != "http":
        return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    if scope["path"] == "/events":
        kind = (b"content-type", b"text/event-stream")
        await send({{"type": "http.response.start", "status": 200, "headers": [kind]}})
        for number in range(5):
            await send({{"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True}})
            await asyncio.sleep(0.1)
        await send({{"type": "http.response.body", "body": b""}})
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(2)
    if scope["path"] == "/crash":
        import os

        os._exit(3)
    body = f"version {{VERSION}} got {{size}} bytes".encode()
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}})
    await send({{"type": "http.response.body", "body": body}})
"""


def asgi(version: str = "1", readme: str = "sdk: asgi\napp_file: app.py") -> dict[str, str]:
    """A plain ASGI app without requirements of its own."""
    return {"README.md": f"---\ntitle: Echo\n{readme}\n---\n", "app.py": ASGI_APP.format(version=version)}


@pytest.fixture(scope="session")
def dormouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("dormouse") / "data") as product:
        yield product
