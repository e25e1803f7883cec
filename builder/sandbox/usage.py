"""How much memory a box uses, seen from outside: its processes' share of RAM and what its files in memory take.

Bounds boxes where no cgroup can be made, and does not see all: what a process keeps in a file without a name (memfd) or
in shared memory that nobody has mapped escapes it. Resident size is cheap to read but counts shared pages once per
process, so the exact share (PSS) is only asked for when the cheap figure passes the limit.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_IN_MEMORY = ("tmp", "home/user", "home/user/app", "dev/shm")


def descendants(pid: int) -> Iterator[int]:
    """`pid` and every process below it that still exists."""
    pending = [pid]
    while pending:
        current = pending.pop()
        yield current
        for task in _tasks(current):
            try:
                pending += [int(child) for child in Path(f"/proc/{current}/task/{task}/children").read_text().split()]
            except OSError:
                continue


def _tasks(pid: int) -> list[str]:
    try:
        return [task.name for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def _share(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except (OSError, IndexError, ValueError):
        return _resident(pid)
    return 0


def _root(pid: int) -> tuple[int, int] | None:
    try:
        status = Path(f"/proc/{pid}/root").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def files_in_memory(pids: Iterable[int]) -> int:
    """Bytes that the writable places of the box take, seen from the first of `pids` that is in it."""
    ours = (_root(os.getpid()), None)
    inside = next((pid for pid in pids if _root(pid) not in ours), None)
    return _files_in_memory(inside) if inside else 0


def _files_in_memory(pid: int) -> int:
    total, seen = 0, set()
    for place in _IN_MEMORY:
        try:
            path = f"/proc/{pid}/root/{place}"
            stat, device = os.statvfs(path), Path(path).stat().st_dev
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            total += (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    return total


def memory_over(pid: int, limit_bytes: int, *, files: bool = True) -> int | None:
    """The memory in use below this process, which is in a box or outside of its own, if it is over the limit."""
    everything = list(descendants(pid))
    in_files = files_in_memory(everything) if files else 0
    if in_files + sum(map(_resident, everything)) <= limit_bytes:
        return None
    used = in_files + sum(map(_share, everything))
    return used if used > limit_bytes else None
