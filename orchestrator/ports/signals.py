"""Hints between processes: "look now". They cut waiting; losing one costs a period, never correctness."""

from collections.abc import AsyncIterator
from typing import Protocol

CONTROLLER = "controller"
"""Something the controller should look at has changed; the payload is a Space's id or empty."""
ROUTES = "routes"
"""The route table has changed."""
ACKS = "acks"
"""A gateway has acknowledged or drained something."""


def space_channel(space_id: str) -> str:
    """Stage, phase or log lines of one Space have changed."""
    return f"space.{space_id}"


class Signals(Protocol):
    async def send(self, channel: str, payload: str = "") -> None:
        """Never raises: a lost hint is no error."""
        ...

    def send_soon(self, channel: str, payload: str = "") -> None:
        """The same from synchronous code; blocks for a moment at most."""
        ...

    def listen(self, *channels: str) -> AsyncIterator[tuple[str, str]]:
        """(channel, payload) pairs for ever; reconnects by itself and yields ("", "") after each reconnect."""
        ...
