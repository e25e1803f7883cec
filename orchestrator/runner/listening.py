"""The descriptors a box is started with. All are opened by us, where no Space can write, and only then handed in.

Above all the listening socket: were it bound by an app in a folder of its own, the app could put a link in its place
that leads the gateway to another Space, or to the gateway's own administration.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from builder.sandbox.launch import Launch
from orchestrator.runner.record import BoxRecord
from orchestrator.runner.runlog import open_log

# A connect to a full backlog fails at once on a Unix socket, which visitors would see as an error.
_BACKLOG = 2048


@dataclass(frozen=True)
class Descriptors:
    """Numbers of open descriptors."""

    listen: int
    status: int
    log: int
    bubblewrap: int
    stderr: int

    def added_to(self, launch: Launch) -> Launch:
        """The launch with these inherited."""
        return replace(launch, descriptors=[*launch.descriptors, self.listen, self.status, self.log, self.bubblewrap])


def listen(path: Path) -> socket.socket:
    """A listening socket that only we can connect to. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def open_descriptors(run: Path, record: BoxRecord, folder: Path, log_file: Path) -> Iterator[Descriptors]:
    """Open all of them; ours are closed at the end, when the box has its own."""
    with ExitStack() as stack:

        def opened(path: Path) -> int:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            return fd

        listener = stack.enter_context(listen(run / "apps" / f"{record.name}.sock"))
        log = open_log(log_file)
        stack.callback(os.close, log)
        yield Descriptors(
            listen=listener.fileno(), status=opened(folder / "status"), log=log,
            bubblewrap=opened(folder / "bwrap.json"), stderr=opened(folder / "stderr"),
        )  # fmt: skip
