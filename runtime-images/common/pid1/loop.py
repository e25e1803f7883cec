"""The event loop of PID 1: descriptors and what to do when something happens on them."""

import select
from collections.abc import Callable

Handler = Callable[[int], None]
READ, WRITE, HANG_UP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP
EDGE = select.EPOLLET


class Loop:
    """One epoll object. Handlers get the event mask; they may watch and unwatch freely."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Silent if it is not watched. Must be called before the descriptor is closed."""
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def turn(self, timeout_s: float | None) -> None:
        """Wait for events and handle them once."""
        for fd, events in self._epoll.poll(timeout_s):
            handler = self._handlers.get(fd)
            if handler:
                handler(events)
