"""Checksums: digests of what is sent, by page or by API."""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, StreamingResponse

HERE = Path(__file__).parent

app = FastAPI(title="Checksums", description="SHA-256 of what you send.")


class Recent:
    """The last digests, and a way to hear of the next one."""

    def __init__(self) -> None:
        self.items: deque[dict[str, str | int]] = deque(maxlen=20)
        self._listeners: set[asyncio.Queue[dict[str, str | int]]] = set()

    def add(self, item: dict[str, str | int]) -> None:
        self.items.append(item)
        for queue in self._listeners:
            queue.put_nowait(item)

    async def follow(self) -> AsyncIterator[dict[str, str | int]]:
        """Everything so far, then whatever comes."""
        queue: asyncio.Queue[dict[str, str | int]] = asyncio.Queue()
        for item in self.items:
            queue.put_nowait(item)
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)


recent = Recent()


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(HERE / "page.html")


@app.post("/api/digest")
async def digest(request: Request, name: str = "unnamed") -> dict[str, str | int]:
    """The SHA-256 of the request's body."""
    sha256, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        sha256.update(chunk)
        size += len(chunk)
    found: dict[str, str | int] = {"name": name[:100], "bytes": size, "sha256": sha256.hexdigest()}
    recent.add(found)
    return found


@app.get("/api/recent")
async def events() -> StreamingResponse:
    """The last digests and every further one, as server-sent events."""

    async def lines() -> AsyncIterator[str]:
        yield ": hello\n\n"
        async for item in recent.follow():
            yield f"data: {json.dumps(item)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@app.websocket("/live")
async def live(socket: WebSocket) -> None:
    """The same for the page. A text that is sent here is digested at once."""
    await socket.accept()

    async def send() -> None:
        async for item in recent.follow():
            await socket.send_json(item)

    sender = asyncio.create_task(send())
    try:
        while True:
            text = (await socket.receive_text()).encode()
            recent.add({"name": "text", "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()})
    except WebSocketDisconnect:
        pass
    finally:
        sender.cancel()
