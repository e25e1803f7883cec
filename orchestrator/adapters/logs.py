"""Logs as files: one JSON object per line, `{"t": seconds, "m": text}`, written by builds and by the runner.

A build's log is addressed by line number, so that a repeated report of a worker changes nothing and a reader can come
back to the place where he was. A Space's run log is several files (one per replica, each rotated once), read oldest
first; its cursor names a file by inode, since rotation renames it. A line without its end is not there yet.
"""

import contextlib
import fcntl
import json
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import Bug
from orchestrator.ports.logs import LogLine

TEXT_MAX = 16_384
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TAIL_BYTES = 256 << 10
_PLACES_MAX = 2048


@dataclass(frozen=True)
class _RunFile:
    path: Path
    inode: int
    began: float
    """Time of its first line."""

    @property
    def replica(self) -> str:
        """Whose log it is; the rotated part belongs to the same one."""
        return self.path.name.partition(".")[0]


class FileLogs:
    """The port `Logs` on a folder."""

    def __init__(self, data: Path) -> None:
        self._builds = data.absolute() / "logs" / "builds"
        self._runs = data.absolute() / "logs" / "runs"
        self._builds.mkdir(parents=True, exist_ok=True)
        self._runs.mkdir(parents=True, exist_ok=True)
        self._places = _Places()

    def append_build(self, build_id: str, first: int, lines: Sequence[tuple[float, str]]) -> int:
        """Several processes may append: the file's own lock makes counting and writing one step."""
        with self._build_path(build_id).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            length = self._count(build_id, file)
            new = lines[max(0, length - first) :] if first <= length else ()
            file.seek(0, 2)
            file.write(b"".join(_encode(at, text) for at, text in new))
            file.flush()
            self._places.keep(build_id, length + len(new), file.tell())
            return length + len(new)

    def read_build(self, build_id: str, start: int = 0, limit: int = 1000) -> Sequence[LogLine]:
        try:
            file = self._build_path(build_id).open("rb")
        except FileNotFoundError:
            return ()
        with file:
            position, offset = self._places.before(build_id, start)
            file.seek(offset)
            found: list[LogLine] = []
            for raw in _whole_lines(file):
                offset += len(raw)
                position += 1
                if position > start:
                    found.append(_decode(raw))
                if len(found) >= limit:
                    break
            self._places.keep(build_id, position, offset)
            return found

    def read_run(self, space_id: str, cursor: str = "", limit: int = 1000) -> tuple[Sequence[LogLine], str]:
        files = self._run_files(space_id)
        began, inode, offset = _parse_cursor(cursor)
        index = next((i for i, file in enumerate(files) if (file.began, file.inode) == (began, inode)), None)
        if index is None:
            # The file is gone: go on with the first that began later.
            index, offset = sum(1 for file in files if file.began <= began), 0
        found: list[LogLine] = []
        for file in files[index:]:
            lines, offset = _read_from(file.path, offset, limit - len(found))
            found += lines
            cursor = f"{file.began}:{file.inode}:{offset}"
            if len(found) >= limit:
                break
            offset = 0
        return found, cursor

    def tail_run(self, space_id: str, lines: int = 20, *, since: float | None = None) -> Sequence[LogLine]:
        files = self._run_files(space_id)
        if since is not None:
            # An earlier replica may write its last lines after the newest has written its first.
            files = [file for file in files if file.replica == files[-1].replica]
        found: list[LogLine] = []
        for file in reversed(files):
            found = _tail(file.path, lines - len(found)) + found
            if len(found) >= lines:
                break
        return found if since is None else [line for line in found if line.at >= since]

    def prune(self, space_id: str, *, keep: int, build_ids: Sequence[str]) -> None:
        for build_id in build_ids:
            self._build_path(build_id).unlink(missing_ok=True)
        newest: dict[str, float] = {}
        for path in self._run_folder(space_id).glob("*.ndjson*"):
            with contextlib.suppress(OSError):
                replica = path.name.partition(".")[0]
                newest[replica] = max(newest.get(replica, 0.0), path.stat().st_mtime)
        for replica in sorted(newest, key=lambda name: newest[name], reverse=True)[keep:]:
            for path in self._run_folder(space_id).glob(f"{replica}.ndjson*"):
                path.unlink(missing_ok=True)

    def delete_space(self, space_id: str, build_ids: Sequence[str]) -> None:
        for build_id in build_ids:
            self._build_path(build_id).unlink(missing_ok=True)
        shutil.rmtree(self._run_folder(space_id), ignore_errors=True)

    def _build_path(self, build_id: str) -> Path:
        return self._builds / f"{_checked(build_id)}.ndjson"

    def _run_folder(self, space_id: str) -> Path:
        return self._runs / _checked(space_id)

    def _run_files(self, space_id: str) -> list[_RunFile]:
        files: list[_RunFile] = []
        for path in self._run_folder(space_id).glob("*.ndjson*"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                lines, _ = _read_lines(file, 1)
                if lines:
                    files.append(_RunFile(path, path.stat().st_ino, lines[0].at))
        return sorted(files, key=lambda file: (file.began, file.path.name))

    def _count(self, build_id: str, file: BinaryIO) -> int:
        size = file.seek(0, 2)
        length, offset = self._places.last(build_id)
        if offset == size:
            return length
        file.seek(offset)
        return length + sum(1 for _ in _whole_lines(file))


class _Places:
    """Where some lines of build logs begin, so that following a log does not read it from the start each time."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._last: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, build_id: str, line: int, offset: int) -> None:
        with self._lock:
            self._known[(build_id, line)] = offset
            if line >= self._last.get(build_id, (0, 0))[0]:
                self._last[build_id] = (line, offset)
            for known in (self._known, self._last):
                while len(known) > _PLACES_MAX:
                    known.popitem(last=False)

    def before(self, build_id: str, line: int) -> tuple[int, int]:
        """(line, offset) to start reading at, in order to reach `line`."""
        with self._lock:
            if (build_id, line) in self._known:
                return line, self._known[(build_id, line)]
            last = self._last.get(build_id, (0, 0))
            return last if last[0] <= line else (0, 0)

    def last(self, build_id: str) -> tuple[int, int]:
        with self._lock:
            return self._last.get(build_id, (0, 0))


def _checked(name: str) -> str:
    if not _ID.fullmatch(name):
        raise Bug(f"{name!r} is no id of a build or Space")
    return name


def _encode(at: float, text: str) -> bytes:
    text = text[:TEXT_MAX].encode("utf-8", "replace").decode()
    return json.dumps({"t": round(at, 3), "m": text}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _decode(raw: bytes) -> LogLine:
    try:
        entry = json.loads(raw)
        return LogLine(float(entry["t"]), str(entry["m"])[:TEXT_MAX])
    except (ValueError, KeyError, TypeError):
        return LogLine(0.0, raw.decode("utf-8", "replace")[:TEXT_MAX].rstrip("\n"))


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their end; the files themselves are kept short by those who write them."""
    while (raw := file.readline()).endswith(b"\n"):
        yield raw


def _read_lines(file: BinaryIO, limit: int) -> tuple[list[LogLine], int]:
    lines: list[LogLine] = []
    taken = 0
    for raw in _whole_lines(file):
        lines.append(_decode(raw))
        taken += len(raw)
        if len(lines) >= limit:
            break
    return lines, taken


def _read_from(path: Path, offset: int, limit: int) -> tuple[list[LogLine], int]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            lines, taken = _read_lines(file, limit)
            return lines, offset + taken
    except OSError:
        return [], offset


def _tail(path: Path, count: int) -> list[LogLine]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).split(b"\n")[:-1]
            if size > _TAIL_BYTES:
                lines = lines[1:]
            return [_decode(raw) for raw in lines[-count:]]
    except OSError:
        return []


def _parse_cursor(cursor: str) -> tuple[float, int, int]:
    try:
        began, inode, offset = cursor.split(":")
        return float(began), int(inode), max(0, int(offset))
    except ValueError:
        return float("-inf"), -1, 0
