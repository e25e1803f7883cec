"""Relays connections with splice(2): bytes move from socket to socket inside the kernel, none through Python.

Used for the way in of apps that listen on TCP only, and for the way out to the filtering proxy. It never blocks: a
connect that has to wait is waited for in the loop, and when descriptors run short new connections wait in the backlog.
"""

import _socket
import os
from collections.abc import Callable

from pid1.loop import EDGE, HANG_UP, READ, WRITE, Loop

_PIPE_BYTES = 1 << 16
_SPLICE_FLAGS = 1 | 2  # SPLICE_F_MOVE, SPLICE_F_NONBLOCK
_IN_PROGRESS = 115
_CONNECTIONS_MAX, _FILES_PER_CONNECTION, _SPARE_FILES = 1000, 6, 100


def connections_max() -> int:
    """How many connections one relay may hold; two relays share the descriptors."""
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, min(_CONNECTIONS_MAX, (files - _SPARE_FILES) // _FILES_PER_CONNECTION // 2))


Socket = _socket.socket
Dial = Callable[[], Socket]
"""Begins a connection without blocking; raises OSError."""


def accept(listener: Socket) -> Socket:
    """Accept one connection, non-blocking. Raises OSError."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]
    connection = Socket(fileno=fd)
    connection.setblocking(False)
    return connection


def begin_connect(family: int, address: object) -> Socket:
    """A non-blocking socket whose connection is made or under way. Raises OSError."""
    connection = Socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    connection.setblocking(False)
    result = connection.connect_ex(address)  # type: ignore[arg-type]
    if result not in (0, _IN_PROGRESS):
        connection.close()
        raise OSError(result, os.strerror(result))
    if family != _socket.AF_UNIX:
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return connection


class _Direction:
    """One direction of a pair: source -> pipe -> sink."""

    __slots__ = ("done", "ended", "held", "pipe_in", "pipe_out", "sink", "source")

    def __init__(self, source: Socket, sink: Socket) -> None:
        self.source, self.sink = source.fileno(), sink
        self.pipe_out, self.pipe_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        self.ended = self.done = False

    def _fill(self) -> bool:
        if self.ended or self.held >= _PIPE_BYTES:
            return False
        try:
            count = os.splice(self.source, self.pipe_in, _PIPE_BYTES - self.held, flags=_SPLICE_FLAGS)
        except BlockingIOError:
            return False
        self.ended = count == 0
        self.held += count
        return True

    def _drain(self) -> bool:
        if not self.held:
            return False
        try:
            count = os.splice(self.pipe_out, self.sink.fileno(), self.held, flags=_SPLICE_FLAGS)
        except BlockingIOError:
            return False
        self.held -= count
        return count > 0

    def pump(self) -> None:
        """Move what can be moved now. Raises OSError if the connection is broken."""
        while not self.done:
            moved = self._fill()
            moved = self._drain() or moved
            if self.ended and not self.held:
                self.done = True
                self.sink.shutdown(_socket.SHUT_WR)
            elif not moved:
                return

    def close(self) -> None:
        os.close(self.pipe_in)
        os.close(self.pipe_out)


class _Pair:
    """Two connected sockets and the two directions between them."""

    def __init__(self, loop: Loop, client: Socket, server: Socket, closed: Callable[[], None]) -> None:
        self._loop, self._closed = loop, closed
        self._sockets = (client, server)
        there = _Direction(client, server)
        try:
            self._directions = (there, _Direction(server, client))
        except OSError:
            there.close()
            raise
        for side in self._sockets:
            loop.watch(side.fileno(), READ | WRITE | HANG_UP | EDGE, self._move)
        self._move(0)

    def _move(self, _events: int) -> None:
        if not self._sockets:
            return
        try:
            for direction in self._directions:
                direction.pump()
            over = all(direction.done for direction in self._directions)
        except OSError:
            over = True
        if over:
            self._close()

    def _close(self) -> None:
        for side in self._sockets:
            self._loop.unwatch(side.fileno())
            side.close()
        for direction in self._directions:
            direction.close()
        self._sockets = ()  # type: ignore[assignment]
        self._closed()


class Relay:
    """Accepts on one listening socket and relays each connection to what `dial` connects to."""

    def __init__(self, loop: Loop, listener: Socket, dial: Dial) -> None:
        self._loop, self._listener, self._dial = loop, listener, dial
        self._open, self._most = 0, connections_max()
        self._paused = False
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, self._accept)

    def _accept(self, _events: int) -> None:
        if self._open >= self._most:
            self._pause()
            return
        try:
            client = accept(self._listener)
        except BlockingIOError:
            return
        except OSError:  # Out of descriptors: go on when one of ours is closed.
            self._pause()
            return
        try:
            server = self._dial()
        except OSError:
            client.close()
            return
        self._open += 1
        self._connect(client, server)

    def _connect(self, client: Socket, server: Socket) -> None:
        def connected(_events: int) -> None:
            self._loop.unwatch(server.fileno())
            try:
                error = server.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error))
                _Pair(self._loop, client, server, self._closed)
            except OSError:
                client.close()
                server.close()
                self._closed()

        self._loop.watch(server.fileno(), WRITE, connected)

    def _pause(self) -> None:
        if self._open and not self._paused:
            self._paused = True
            self._loop.unwatch(self._listener.fileno())

    def _closed(self) -> None:
        self._open -= 1
        if self._paused:
            self._paused = False
            self._loop.watch(self._listener.fileno(), READ, self._accept)
