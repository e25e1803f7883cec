"""Watches how much of the disk a source build takes, while it runs.

The kernel bounds the single file (RLIMIT_FSIZE), nothing bounds their sum: so the box is counted every few seconds, at
once when the disk lost a good part of the limit since the last count, and a build that took too much is ended. What
was reserved counts like what was written. A folder nested so deep that nobody looks into it makes the loss of free
space itself count.
"""

import shutil
import time
from pathlib import Path

from builder.adapters.files import FREE_BYTES_MIN
from builder.failures import BuildFailed
from builder.sandbox.trees import Usage, disk_usage

_EVERY_S = 2.0
_SHARE_OF_TIME = 20
"""Counting may take a twentieth of the time."""


class DiskWatch:
    """One build. `box` is all that it may write to, what earlier builds left in there included."""

    def __init__(self, box: Path, limit: int) -> None:
        self._box, self._limit = box, limit
        self._free_at_start = self._free_at_count = _free(box)
        self._next = 0.0
        self.failure: BuildFailed | None = None
        """Why the build has to end."""

    def is_over(self) -> bool:
        """Whether the build has to end. Cheap, so it may be asked often."""
        free = _free(self._box)
        if free < FREE_BYTES_MIN:
            self.failure = BuildFailed("disk-full", "The build filled the disk of this installation and was stopped.")
        elif time.monotonic() >= self._next or self._free_at_count - free > self._limit // 16:
            self._count(free)
        return self.failure is not None

    def check(self) -> None:
        """Raise the reason to end, counting once more."""
        self._count(_free(self._box))
        if self.failure:
            raise self.failure

    def _count(self, free: int) -> None:
        began = time.monotonic()
        usage = disk_usage(self._box, enough=self._limit)
        lost = self._free_at_start - free
        if usage.allocated > self._limit or (not usage.complete and lost > self._limit):
            self.failure = too_much(self._limit)
        now = time.monotonic()
        self._free_at_count, self._next = free, now + max(_EVERY_S, _SHARE_OF_TIME * (now - began))


def is_within(box: Path, limit: int) -> bool:
    """Whether a box may be kept: nothing hides in it, and it is not too large."""
    usage: Usage = disk_usage(box, enough=limit)
    return usage.complete and usage.allocated <= limit


def too_much(limit: int) -> BuildFailed:
    """The refusal for a build that took more than `limit` bytes."""
    message = (
        f"The build took more than the {_size(limit)} of disk that source builds of one owner may take, and was "
        "stopped. Use packages that offer wheels, or ask the administrator to raise DORMOUSE_SOURCE_BYTES_MAX."
    )
    return BuildFailed("build-disk", message)


def file_too_large(limit: int) -> BuildFailed:
    """The refusal for a build that wrote a file of more than `limit` bytes."""
    message = (
        f"The build wrote a file larger than the {_size(limit)} that one file of a source build may take. Use packages "
        "that offer wheels, or ask the administrator to raise DORMOUSE_SOURCE_BYTES_MAX."
    )
    return BuildFailed("build-disk", message)


def _size(count: int) -> str:
    return f"{count / (1 << 30):g} GiB" if count >= 1 << 30 else f"{count / (1 << 20):g} MiB"


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
