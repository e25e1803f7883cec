"""The few calls to the kernel that Python's library does not offer, each a no-op where the system has none.

They tie the life of children to that of the supervisor: death signals, inheritance of orphans, process groups.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
# Looked up before any fork: between fork and exec nothing may be imported or allocated at leisure.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if _LINUX else None


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A function for the child, between fork and exec: the kernel sends it `number` when its parent dies."""
    parent = os.getpid()

    def prepare() -> None:
        if _prctl is None:
            return
        _prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # The parent died before the call above.
            os._exit(1)

    return prepare


def become_subreaper() -> None:
    """Make this process the parent of every descendant whose own parent dies."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_group(leader: int, number: signal.Signals, *, leader_only: bool = False) -> None:
    """Signal a process or the group it leads; silent if nobody is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if leader_only:
            os.kill(leader, number)
        else:
            os.killpg(leader, number)


def dead_child() -> int | None:
    """A child that has ended and was not collected yet; it is left as it is."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None


def collect(pid: int) -> None:
    """Collect a dead child; silent if somebody else has."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def raise_file_limit() -> None:
    """Take all the file descriptors that the system allows; a gateway needs one or two per visitor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
