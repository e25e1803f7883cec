"""Writes the files of one commit to `snapshots/<space>/<sha>`: regular files only, with the commit's own time.

Files come straight from git's store into a folder that nobody else knows, so no path of the repository ever meets
another one on the disk; links and submodules are left out with a warning. The folder gets its name when it is complete.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from builder.adapters.control import Control
from builder.adapters.engines.bytecode import Mistake, compile_roots
from builder.adapters.engines.pythons import Python
from builder.adapters.files import publish, seal, touch
from builder.adapters.source import Commit, Repository
from builder.contract import BuildOrder
from builder.domain.snapshot import first_page, is_lfs_pointer
from builder.domain.tree import Kind, Listing, total_size
from builder.failures import BuildFailed
from builder.sandbox.trees import remove_tree
from builder.settings import Settings

_EARLIEST_S = 315_532_800  # 1980; archive formats and some servers know nothing before.
_WARNED_MAX = 5

Log = Callable[[str], None]


@dataclass(frozen=True)
class Snapshot:
    """Where the files of a revision are."""

    place: str
    """Relative to the data folder."""
    kept: bool
    """It had been written before."""
    mistakes: tuple[Mistake, ...] = ()
    """Python files that cannot be compiled; paths are those of the repository."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """For whom and how a snapshot is made."""

    order: BuildOrder
    control: Control
    log: Log
    python: Python | None = None
    """Compile the app's files for this Python."""
    page: str | None = None
    """First page of a static Space."""


class Snapshots:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def write(self, repository: Repository, commit: Commit, files: Listing, wanted: Wanted) -> Snapshot:
        """The snapshot of a commit, made if it is not there. Raises BuildFailed, or the build's reason to stop."""
        self._check_limits(files)
        order = wanted.order
        # A factory build must not touch a folder that a running replica has mounted: it gets one of its own.
        name = f"{order.sha}-{order.build_id}" if order.factory else order.sha
        place = f"snapshots/{order.space_id}/{name}"
        final = self._settings.data / place
        if final.is_dir():
            touch(final)
            return Snapshot(place, kept=True)
        made = final.with_name(f".{name}-{order.build_id}")
        try:
            mistakes = _make(made, repository, commit, files, wanted)
            publish(made, final)
        finally:
            remove_tree(made)
        return Snapshot(place, kept=False, mistakes=mistakes)

    def _check_limits(self, files: Listing) -> None:
        count, size = len(files), total_size(files.values())
        if count > self._settings.snapshot_files_max:
            message = f"The commit has {count} files; a Space may have {self._settings.snapshot_files_max}."
            raise BuildFailed("too-many-files", message, stage="CONFIG_ERROR")
        if size > self._settings.snapshot_bytes_max:
            limit = self._settings.snapshot_bytes_max >> 20
            message = f"The files of the commit take {size >> 20} MiB; a Space may have {limit} MiB."
            raise BuildFailed("too-large", message, stage="CONFIG_ERROR")


def _make(folder: Path, repository: Repository, commit: Commit, files: Listing, wanted: Wanted) -> tuple[Mistake, ...]:
    _warn(files, wanted.log)
    folder.mkdir(parents=True)
    _fill(folder, repository, files, wanted, seconds=_time(commit))
    if wanted.page:
        _write_first_page(folder, wanted.page, _time(commit))
    mistakes = _compile(folder, files, wanted.python, wanted.control) if wanted.python else ()
    seal(folder)
    return mistakes


def _fill(folder: Path, repository: Repository, files: Listing, wanted: Wanted, *, seconds: int) -> None:
    made: set[Path] = set()
    pointers: list[str] = []
    for path, entry in files.items():
        if not entry.regular:
            continue
        wanted.control.check()
        target = folder / path
        if target.parent not in made:
            _make_parent(target, path)
            made.add(target.parent)
        head = _write(target, repository.chunks(entry), path, executable=entry.kind is Kind.EXECUTABLE)
        os.utime(target, (seconds, seconds))
        if is_lfs_pointer(head, entry.size):
            pointers.append(path)
    if pointers:
        wanted.log(f"Warning: {_named(pointers)} {_ARE_POINTERS}")


_ARE_POINTERS = (
    "stayed Git LFS pointers: the app sees small text files in their place. Files of usual size can be committed "
    "without LFS."
)


def _write(target: Path, chunks: Iterable[bytes], path: str, *, executable: bool) -> bytes:
    """Write one file; its beginning."""
    head = b""
    try:
        with target.open("xb") as file:
            for chunk in chunks:
                head = head or chunk[:200]
                file.write(chunk)
            if executable:
                os.fchmod(file.fileno(), 0o755)
    except (FileExistsError, IsADirectoryError) as error:
        raise _twice(path) from error
    return head


def _make_parent(target: Path, path: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise _twice(path) from error


def _twice(path: str) -> BuildFailed:
    message = f"The path {path[:80]!r} is in the commit twice, as a file and as something else; remove one."
    return BuildFailed("bad-path", message, stage="CONFIG_ERROR")


def _time(commit: Commit) -> int:
    """The commit's time where it is believable."""
    return min(max(commit.time_s, _EARLIEST_S), int(time.time()))


def _write_first_page(folder: Path, page: str, seconds: int) -> None:
    if (folder / "index.html").exists() or page == "index.html":
        return
    target = folder / "index.html"
    target.write_text(first_page(page))
    os.utime(target, (seconds, seconds))


def _compile(folder: Path, files: Listing, python: Python, control: Control) -> tuple[Mistake, ...]:
    if not any(path.endswith(".py") for path in files):
        return ()
    found = compile_roots(python, [folder], control=control)
    return tuple(
        Mistake(str(Path(mistake.file).relative_to(folder)), mistake.line, mistake.message) for mistake in found
    )


def _warn(files: Listing, log: Log) -> None:
    for kind, advice in (
        (Kind.LINK, "symbolic links are not taken over; commit the files themselves."),
        (Kind.SUBMODULE, "submodules are not fetched; commit their files instead."),
    ):
        paths = [path for path, entry in files.items() if entry.kind is kind]
        if paths:
            log(f"Warning: {_named(paths)}: {advice}")


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - _WARNED_MAX} more" if len(paths) > _WARNED_MAX else ""
    return ", ".join(paths[:_WARNED_MAX]) + more
