"""Files and folders of the data folder: locks between builds, removal, and what read-only means here.

What is shared between environments is the inode of a file, by hard link. So files lose their write bits for everybody,
owner included; folders are each environment's own and keep the owner's, so that removing one takes no preparation.
"""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from builder.adapters.control import Control
from builder.failures import BuildFailed
from builder.sandbox.trees import DEPTH_MAX, Found, TreeTooDeep, remove_tree, walk

log = structlog.get_logger()

_POLL_S = 0.05
FREE_BYTES_MIN = 256 << 20


@contextlib.contextmanager
def locked(path: Path, control: Control) -> Iterator[None]:
    """Hold a lock between threads and processes. Waits as long as the build may; the kernel frees it with its owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        while not _try_lock(file.fileno()):
            control.stopped.wait(_POLL_S)
            control.check()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def seal(folder: Path) -> None:
    """Make a finished tree readable for everybody and its files writable for nobody; drop what is no plain file.

    Raises BuildFailed for folders nested without end.
    """
    try:
        for found in walk(folder):
            _seal(found)
    except TreeTooDeep as error:
        message = f"The build made folders that are nested deeper than {DEPTH_MAX} levels. Find the package that does."
        raise BuildFailed("too-deep", message) from error
    folder.chmod(0o755)


def _seal(found: Found) -> None:
    mode = found.status.st_mode
    if stat.S_ISREG(mode):
        wanted = 0o555 if mode & 0o111 else 0o444
        if stat.S_IMODE(mode) != wanted:
            found.chmod(wanted)
    elif stat.S_ISDIR(mode):
        found.chmod(0o755)
    elif not stat.S_ISLNK(mode):
        found.unlink()


def publish(made: Path, final: Path) -> bool:
    """Move a finished folder to its name at once. False if the name was taken meanwhile; `made` is removed then."""
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        remove_tree(made)
        return False
    return True


def touch(folder: Path) -> None:
    """Note that a folder is in use: what removes unused ones spares those touched lately."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def remove_leftovers(folder: Path, *, older_s: float) -> None:
    """Remove what builds that died left in `folder`: names that begin with a dot, untouched for so long.

    Nothing that is in there may keep a worker from starting, so what cannot be removed is told and left.
    """
    before = time.time() - older_s
    try:
        old = [path for path in folder.iterdir() if path.name.startswith(".") and path.lstat().st_mtime < before]
    except OSError:
        return
    for path in old:
        try:
            if path.is_dir() and not path.is_symlink() and not remove_tree(path):
                log.warning("leftover_not_removed", path=str(path), reason="something in it cannot be removed")
        except Exception as error:
            log.warning("leftover_not_removed", path=str(path), reason=repr(error))
