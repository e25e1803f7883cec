"""Who was let into which private Space a moment ago, so that the control plane is not asked for each request. Pure.

Only what was allowed is kept, for a minute: a refusal is never remembered, and whoever loses the right to read a
Space loses its app within that minute. Credentials are kept as hashes.
"""

import hashlib
from collections.abc import Iterable

KEPT_S = 60.0
_ENTRIES_MAX = 50_000


class Admitted:
    """Host and credential -> until when."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, bytes], float] = {}

    def allow(self, host: str, credential: str, now: float) -> None:
        """The control plane has said that this credential opens the Space of `host`."""
        if len(self._until) >= _ENTRIES_MAX:
            self._until = {key: until for key, until in self._until.items() if until > now}
        if len(self._until) < _ENTRIES_MAX:
            self._until[(host, digest(credential))] = now + KEPT_S

    def allows(self, host: str, credentials: Iterable[str], now: float) -> bool:
        """Whether one of them was allowed within the last minute."""
        return any(self._until.get((host, digest(credential)), 0.0) > now for credential in credentials)


def digest(*credentials: str) -> bytes:
    """What stands for credentials where they are compared."""
    return hashlib.sha256("\n".join(credentials).encode()).digest()
