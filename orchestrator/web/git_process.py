"""One git process behind one HTTP response: the request's body goes in, the answer comes out, in bounded memory.

The process lives in a session of its own and is ended with the response, however that ends: it gets TERM first, so
that git removes what it has half received. Nothing here knows who asks or why.
"""

import asyncio
import contextlib
import os
import signal
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.errors import DormouseError, Invalid, Unavailable
from orchestrator.ports.repositories import GitServer

log = structlog.get_logger()

DEADLINE_S = 3600.0
SEND_IDLE_S = 30.0
SLOWEST_BYTES_S = 16 << 10
"""A client that takes an answer more slowly than this, after its first seconds, is given up."""
GRACE_S = 3.0
_PIECE = 64 << 10
_STDERR_MAX = 4096
_ALLOCATION_REFUSED = b"attempting to allocate"
"""Git's words when it ends for the limit on its memory."""
_TAKES_TOO_MUCH = (
    b"Unpacking this push takes git more memory than it may have: a large file is packed as a difference to another.\n"
    b"Push with `git -c core.bigFileThreshold=32m push`, or take the file out of the commits that you push.\n"
)
_ending: set["asyncio.Task[None]"] = set()


class GitResponse(Response):
    """Streams a git process. `body` is fed to it; past `body_max` the author reads `too_large`."""

    def __init__(
        self,
        server: GitServer,
        *,
        admission: AbstractAsyncContextManager[None],
        media_type: str,
        headers: Mapping[str, str],
        prefix: bytes,
        body: AsyncIterator[bytes] | None,
        body_max: int,
        too_large: str,
    ) -> None:
        super().__init__(headers=dict(headers), media_type=media_type)
        del self.headers["content-length"]
        self._server, self._admission, self._prefix = server, admission, prefix
        self._body, self._body_max, self._too_large = body, body_max, too_large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._admission:
            process = await asyncio.create_subprocess_exec(
                *self._server.arguments,
                stdin=asyncio.subprocess.DEVNULL if self._body is None else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(self._server.environment),
                start_new_session=True,
            )
            feed = _Feed(process, self._body, self._body_max, self._too_large)
            feeding = asyncio.create_task(feed.run(receive))
            errors = asyncio.create_task(_head(process.stderr))
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._relay(process, feed, errors, send)
            except TimeoutError:
                log.warning("git_gave_up", reason="the exchange took too long or the client stopped reading")
            finally:
                feeding.cancel()
                errors.cancel()
                ending = asyncio.create_task(_end(process))
                _ending.add(ending)
                ending.add_done_callback(_ending.discard)

    async def _relay(
        self, process: asyncio.subprocess.Process, feed: "_Feed", errors: "asyncio.Task[bytes]", send: Send
    ) -> None:
        assert process.stdout is not None
        packets, sender = _Packets(), _Sender(send)
        piece = await process.stdout.read(_PIECE)
        if not piece:
            await _judge_silence(process, feed, errors)
        if feed.gone:
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await sender.send(self._prefix)
        while piece:
            if feed.is_push:
                # Only whole packets, so that a sentence of ours can stand between them.
                piece = packets.whole(piece)
                if feed.is_too_large and not feed.told:
                    feed.told = True
                    piece = packet(b"\x02" + self._too_large.encode() + b"\n") + piece
                if _ALLOCATION_REFUSED in piece:
                    piece = packet(b"\x02" + _TAKES_TOO_MUCH) + piece
            await sender.send(piece)
            piece = await process.stdout.read(_PIECE)
        await sender.send(packets.rest)
        # The client reads the end of the answer only when it has sent everything.
        await feed.poured.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Feed:
    """The body on its way to git; afterwards the watch for a client that hangs up."""

    def __init__(
        self, process: asyncio.subprocess.Process, body: AsyncIterator[bytes] | None, body_max: int, too_large: str
    ) -> None:
        self._process, self._body, self._body_max, self._too_large = process, body, body_max, too_large
        self._taken = 0
        self.is_push = self.told = self.gone = False
        self.failure: DormouseError | None = None
        self.poured = asyncio.Event()

    @property
    def is_too_large(self) -> bool:
        return self._taken > self._body_max

    async def run(self, receive: Receive) -> None:
        try:
            if self._body is not None:
                await self._pour(self._body)
            self.poured.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone = True
        except ClientDisconnect:
            self.gone = True
        except DormouseError as error:
            self.failure = error
        self.poured.set()
        _signal(self._process, signal.SIGTERM)

    async def _pour(self, body: AsyncIterator[bytes]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        listens = True
        async for piece in body:
            if self._taken == 0:
                self.is_push = b"side-band-64k" in piece[:8192] and b" report-status" in piece[:8192]
            self._taken += len(piece)
            if self._taken > 2 * self._body_max + (1 << 20):
                raise Invalid(self._too_large)
            if listens:
                try:
                    stdin.write(piece)
                    await stdin.drain()
                except (BrokenPipeError, ConnectionResetError):
                    # Git has seen enough. The client goes on sending, so go on taking, up to a limit.
                    listens = False
        with contextlib.suppress(OSError, RuntimeError):
            stdin.close()


class _Sender:
    """Hands pieces to a client, and raises TimeoutError for one that takes none, or hardly any."""

    def __init__(self, send: Send) -> None:
        self._send, self._sent, self._waited_s = send, 0, 0.0

    async def send(self, piece: bytes) -> None:
        if not piece:
            return
        patience_s = SEND_IDLE_S + self._sent / SLOWEST_BYTES_S - self._waited_s
        began = time.monotonic()
        async with asyncio.timeout(min(SEND_IDLE_S, patience_s)):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self._waited_s += time.monotonic() - began
        self._sent += len(piece)


class _Packets:
    """Cuts git's output at the ends of its packets."""

    def __init__(self) -> None:
        self.rest = b""

    def whole(self, piece: bytes) -> bytes:
        """Everything up to the end of the last whole packet; the remainder is kept for the next call."""
        data = self.rest + piece
        end = 0
        while len(data) - end >= 4:
            try:
                length = max(4, int(data[end : end + 4], 16))
            except ValueError:
                length = len(data) - end
            if end + length > len(data):
                break
            end += length
        self.rest = data[end:]
        return data[:end]


def packet(content: bytes) -> bytes:
    """A line of git's protocol: its length in four hexadecimal digits, then itself."""
    return f"{len(content) + 4:04x}".encode() + content


async def unzipped(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a gzip stream, unpacked in pieces that stay small however well they were packed."""
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    async for packed in pieces:
        left = packed
        while not unpacker.eof:
            try:
                piece = unpacker.decompress(left, _PIECE)
            except zlib.error as error:
                raise Invalid("The body says that it is gzip, but it is not.") from error
            left = unpacker.unconsumed_tail
            if not piece and not left:
                break
            yield piece
    if not unpacker.eof:
        raise Invalid("The gzip body ends too early.")


async def _judge_silence(process: asyncio.subprocess.Process, feed: _Feed, errors: "asyncio.Task[bytes]") -> None:
    """Git ended without a word: fine if it says so, otherwise somebody's fault."""
    code = await process.wait()
    if code == 0 or feed.gone:
        return
    said = (await errors).decode("utf-8", "replace").strip()
    log.info("git_refused", code=code, said=said[:500])
    if feed.failure is not None:
        raise feed.failure
    if code < 0:
        raise Unavailable("Git was ended before it could answer; try again.", 5.0)
    raise Invalid("Git could not make sense of this request. Use a git client at this address.")


async def _head(stream: asyncio.StreamReader | None) -> bytes:
    """The beginning of a stream, which is read to its end so that its writer never waits."""
    assert stream is not None
    kept = b""
    while piece := await stream.read(_PIECE):
        kept += piece[: _STDERR_MAX - len(kept)]
    return kept


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """To the whole session: git has children of its own."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


async def _end(process: asyncio.subprocess.Process) -> None:
    _signal(process, signal.SIGTERM)
    # What nobody has read would keep the pipes open, and asyncio waits for these too.
    ended = asyncio.gather(process.wait(), _head(process.stdout), _head(process.stderr))
    try:
        async with asyncio.timeout(GRACE_S):
            await asyncio.shield(ended)
    except (TimeoutError, asyncio.CancelledError) as error:
        _signal(process, signal.SIGKILL)
        if isinstance(error, TimeoutError):
            await ended
