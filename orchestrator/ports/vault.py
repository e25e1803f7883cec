"""Encryption of secrets at rest, and signatures that only this installation can make."""

from typing import Protocol


class Vault(Protocol):
    def seal(self, text: str) -> str: ...

    def open(self, sealed: str) -> str:
        """Raises Unavailable if the value was sealed with another key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """A signature (HMAC) of `message`; the same message has the same one as long as the key is the same."""
        ...
