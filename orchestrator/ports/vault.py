"""Encryption of secrets at rest."""

from typing import Protocol


class Vault(Protocol):
    def seal(self, text: str) -> str: ...

    def open(self, sealed: str) -> str:
        """Raises Unavailable if the value was sealed with another key."""
        ...
