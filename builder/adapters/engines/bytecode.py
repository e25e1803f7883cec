"""Bytecode for environments and snapshots, made once and shared by hard link.

Bytecode is written into uv's cache, beside the unpacked wheels, so that every environment that is linked from it later
has it without doing anything. What has been compiled for which Python is remembered outside of uv's own folders. The
wheels are never executed for it; a file that cannot be compiled is simply without bytecode.
"""

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.adapters.control import Control, Stopped
from builder.adapters.engines.pythons import Python
from builder.adapters.files import locked
from builder.adapters.process import run
from builder.sandbox.trees import remove_tree

SCRIPT = Path(__file__).with_name("compile_files.py")
MEMORY_MAX = 2 << 30
PARALLEL_MAX = 8
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Mistake:
    """A file that is no Python for the interpreter at hand."""

    file: str
    line: int | None
    message: str


def compile_roots(python: Python, roots: Sequence[Path], *, control: Control, parallel: int = 1) -> list[Mistake]:
    """Compile all below `roots`; the mistakes found. The roots' filesystem is also used for scratch files."""
    staging = Path(tempfile.mkdtemp(prefix=".bytecode-", dir=roots[0].parent))
    mistakes: list[list[Mistake]] = [[] for _ in range(parallel)]

    def part(number: int) -> None:
        argv = [python.path, "-I", "-S", "-B", SCRIPT, staging, number, parallel, *roots]
        with contextlib.suppress(Stopped):
            done = run([str(word) for word in argv], control=control, env=_ENVIRONMENT, memory_max=MEMORY_MAX)
            mistakes[number] = list(_mistakes(done.out))

    try:
        # A command dies with the thread that started it; these threads wait for theirs.
        threads = [threading.Thread(target=part, args=(number,)) for number in range(1, parallel)]
        for thread in threads:
            thread.start()
        part(0)
        for thread in threads:
            thread.join()
    finally:
        remove_tree(staging)
    control.check()
    return [mistake for found in mistakes for mistake in found]


def _mistakes(out: bytes) -> Iterator[Mistake]:
    for raw in out.splitlines():
        said = json.loads(raw)
        yield Mistake(said["file"], said["line"], said["message"])


class WheelBytecode:
    """Bytecode of the wheels in one uv cache."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def complete(self, environment: Path, python: Python, control: Control) -> bool:
        """Compile what the environment's wheels lack. True if there was anything, so that it must be linked anew."""
        lacking = self._lacking(environment, python)
        if not lacking:
            return False
        with locked(self._cache / ".dormouse-bytecode.lock", control):
            still = [archive for archive in lacking if not self._mark(archive, python).exists()]
            if still:
                parallel = min(os.cpu_count() or 1, PARALLEL_MAX)
                compile_roots(python, still, control=control, parallel=parallel)
            for archive in still:
                mark = self._mark(archive, python)
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
        return True

    def _mark(self, archive: Path, python: Python) -> Path:
        return self._cache / ".dormouse-bytecode" / python.cache_tag / archive.name

    def _lacking(self, environment: Path, python: Python) -> list[Path]:
        archives = self._archives()
        used = {archives[inode] for inode in _metadata(environment) if inode in archives}
        return sorted(archive for archive in used if not self._mark(archive, python).exists())

    def _archives(self) -> Mapping[int, Path]:
        """Inode of a wheel's METADATA -> its unpacked folder in the cache."""
        found: dict[int, Path] = {}
        for archive in self._cache.glob("archive-v*/*"):
            for metadata in archive.glob("*.dist-info/METADATA"):
                found[metadata.stat().st_ino] = archive
        return found


def _metadata(environment: Path) -> Iterator[int]:
    for metadata in environment.glob("lib/python3*/site-packages/*.dist-info/METADATA"):
        yield metadata.stat().st_ino
