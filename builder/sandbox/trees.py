"""Walks and removes folders that strangers have filled, whatever they nested, linked or locked in there.

`os.walk` and `shutil.rmtree` call themselves for each level, so a build that leaves some thousand folders in each other
ends whoever looks at them. Here every level is a descriptor on a list of bounded length, and names are only ever looked
up in an open folder: no link is followed, and no path grows too long.

Must never touch anything outside of the folder it was given.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DEPTH_MAX = 100
"""Levels of folders that a tree may have. What people make stays below thirty."""
_OPEN_MAX = 48
_ENTRY_BYTES = 512
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_ONLY = getattr(os, "O_PATH", 0)


class TreeTooDeep(Exception):
    """Folders are nested deeper than DEPTH_MAX."""


@dataclass(frozen=True)
class Found:
    """One entry. `parent` is a descriptor of its folder, good until the next entry is asked for."""

    parent: int
    name: str
    status: os.stat_result

    def chmod(self, mode: int) -> None:
        """Change the mode of a file or folder that is no link."""
        _chmod(self.name, self.parent, mode)

    def unlink(self) -> None:
        os.unlink(self.name, dir_fd=self.parent)


@dataclass
class _Level:
    """A folder that is open, and the folders in it that are still to be visited."""

    descriptor: int
    name: str = ""
    folders: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Usage:
    """What a tree takes on the disk."""

    allocated: int
    """Bytes; what was reserved counts, whatever length files say they have."""
    complete: bool
    """False if there were folders too deep to be looked into."""


def walk(folder: Path, *, left_out: list[str] | None = None) -> Iterator[Found]:
    """Everything below `folder`, each folder before what it holds. What vanishes meanwhile is not told.

    Folders of ours that do not let us in are made to. Those below DEPTH_MAX levels are noted in `left_out`; without it
    they raise TreeTooDeep. Raises OSError.
    """
    levels = [_Level(_opened(str(folder), None))]
    try:
        yield from _entries(levels[0])
        while levels:
            if not levels[-1].folders:
                os.close(levels.pop().descriptor)
                continue
            try:
                name = levels[-1].folders.pop()
                levels.append(_Level(_opened(name, levels[-1].descriptor), name))
            except (FileNotFoundError, NotADirectoryError):
                continue
            if len(levels) <= DEPTH_MAX:
                yield from _entries(levels[-1])
            elif left_out is None:
                raise TreeTooDeep(f"Folders are nested deeper than {DEPTH_MAX} levels.")
            else:
                left_out.append(levels[-1].name)
    finally:
        for level in levels:
            os.close(level.descriptor)


def disk_usage(folder: Path, *, enough: int) -> Usage:
    """Count until there are more than `enough` bytes.

    Each file counts once however many names it has. An entry takes a little too, so that nobody hides behind millions
    of empty files. Raises OSError.
    """
    total, seen = 0, set()
    left_out: list[str] = []
    for found in walk(folder, left_out=left_out):
        status = found.status
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if status.st_ino in seen:
                continue
            seen.add(status.st_ino)
        total += max(status.st_blocks * 512, _ENTRY_BYTES)
        if total > enough:
            break
    return Usage(total, not left_out)


def remove_tree(folder: Path) -> bool:
    """Remove a folder and all that is in it; whether nothing is left. A link of that name is left alone, silently.

    Folders below _OPEN_MAX levels are moved up first, so a tree of any depth goes.
    """
    with contextlib.suppress(FileNotFoundError):
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _remove(parent, folder.name)
        finally:
            os.close(parent)
    return not os.path.lexists(folder)


def _remove(parent: int, name: str) -> None:
    levels: list[_Level] = []
    pending = [name]
    try:
        while levels or pending:
            above = levels[-1].descriptor if levels else parent
            folders = levels[-1].folders if levels else pending
            if folders and len(levels) == _OPEN_MAX:
                _move_up(folders.pop(), above, levels[0])
            elif folders:
                with contextlib.suppress(OSError):
                    levels.append(_emptied_of_files(folders.pop(), above))
            else:
                done = levels.pop()
                os.close(done.descriptor)
                with contextlib.suppress(OSError):
                    os.rmdir(done.name, dir_fd=levels[-1].descriptor if levels else parent)
    finally:
        for level in levels:
            os.close(level.descriptor)


def _emptied_of_files(name: str, parent: int) -> _Level:
    """Open a folder and unlink all but folders in it."""
    level = _Level(_opened(name, parent), name)
    with contextlib.suppress(OSError):
        os.fchmod(level.descriptor, stat.S_IRWXU)
    for found in _entries(level):
        if not stat.S_ISDIR(found.status.st_mode):
            with contextlib.suppress(OSError):
                found.unlink()
    return level


def _move_up(name: str, parent: int, top: _Level) -> None:
    """Make a deep folder one of the tree's first level."""
    with contextlib.suppress(OSError):
        _chmod(name, parent, stat.S_IRWXU)
        moved = secrets.token_hex(16)
        os.rename(name, moved, src_dir_fd=parent, dst_dir_fd=top.descriptor)
        top.folders.append(moved)


def _entries(level: _Level) -> Iterator[Found]:
    """What is in an open folder; the folders among it are noted."""
    with os.scandir(level.descriptor) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(status.st_mode):
                level.folders.append(entry.name)
            yield Found(level.descriptor, entry.name, status)


def _opened(name: str, parent: int | None) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        _chmod(name, parent, stat.S_IRWXU)
        return os.open(name, _FOLDER, dir_fd=parent)


def _chmod(name: str, parent: int | None, mode: int) -> None:
    """Change a mode without following a link, which Linux only does by way of a descriptor."""
    if not _NAME_ONLY:
        os.chmod(name, mode, dir_fd=parent, follow_symlinks=False)
        return
    descriptor = os.open(name, _NAME_ONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            Path(f"/proc/self/fd/{descriptor}").chmod(mode)
    finally:
        os.close(descriptor)
