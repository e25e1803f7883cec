"""Clears away what belongs to no known box: processes, sockets and groups that a killed runner left."""

import os
import signal
from collections.abc import Collection
from pathlib import Path

from builder.sandbox.cgroups import Cgroups
from builder.sandbox.usage import descendants


def box_of(pid: int, installation: str) -> str | None:
    """Name of the box that a process belongs to, by the command line of its PID 1; None for any other process."""
    marker = f"box={installation}/".encode()
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return next(
        (word.removeprefix(marker).decode("ascii", "replace") for word in words if word.startswith(marker)), None
    )


def kill_unknown_boxes(installation: str, known: Collection[str]) -> int:
    """End boxes of this installation whose name is not known; how many processes that were."""
    killed = 0
    for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]:
        name = box_of(pid, installation)
        if name is not None and name not in known:
            killed += _kill_tree(pid)
    return killed


def _kill_tree(pid: int) -> int:
    killed = 0
    for one in reversed(list(descendants(pid))):
        try:
            os.kill(one, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
        killed += 1
    return killed


def remove_unknown_files(apps: Path, groups: Cgroups | None, known: Collection[str]) -> None:
    """Remove sockets and groups of boxes that are not known."""
    for path in apps.glob("*.sock"):
        if path.stem not in known:
            path.unlink(missing_ok=True)
    for name in groups.names() - set(known) if groups else ():
        groups.remove(name) if groups else None
