"""Static Spaces: one link per host in `sites/`, which Caddy follows. No process, no configuration per Space.

A link is replaced by rename(2), so a visitor gets the old snapshot or the new one, never neither. Caddy looks the
link up on each request; nothing has to be told.
"""

import os
import re
import secrets
from pathlib import Path

from orchestrator.domain.plan import STATIC_ADDRESS
from orchestrator.errors import Invalid, Missing

_HOST = re.compile(r"[a-z0-9_-]+([.][a-z0-9_-]+)+")


class CaddySites:
    """`orchestrator.ports.runtime.StaticSites` on one machine. `data` is the data folder."""

    def __init__(self, data: Path) -> None:
        self._data = data.resolve()
        self._sites = self._data / "sites"

    def publish(self, host: str, snapshot: str) -> str:
        """Serve `snapshot` (relative to the data folder) under `host`; returns the address of the server.

        Repeatable. Raises Invalid for a host or path that could lead anywhere else, Missing without such a folder.
        """
        link = self._link(host)
        target = (self._data / snapshot).resolve()
        if not target.is_relative_to(self._data) or target == self._data:
            raise Invalid(f"{snapshot!r} is no snapshot: it must lie in the data folder.")
        if not target.is_dir():
            raise Missing(f"There is no snapshot {snapshot!r}.", kind="revision")
        self._sites.mkdir(mode=0o700, exist_ok=True)
        fresh = self._sites / f".{host}.{secrets.token_hex(4)}"
        # Relative, so that the data folder can be moved.
        fresh.symlink_to(os.path.relpath(target, self._sites))
        fresh.replace(link)
        return STATIC_ADDRESS

    def withdraw(self, host: str) -> None:
        """Stop serving `host`. Silent if it is not served."""
        self._link(host).unlink(missing_ok=True)

    def _link(self, host: str) -> Path:
        if not _HOST.fullmatch(host) or len(host) > 253:
            raise Invalid(f"{host[:300]!r} is no host name.")
        return self._sites / host
