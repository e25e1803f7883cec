"""The files of a commit as git lists them, before a byte of them is read.

`parse_listing` takes the output of `git ls-tree -r -l -z --full-tree <commit>`. Detection and planning see the
repository only as this listing and a reader for a few small files, so that the orchestrator can call them while a push
waits, and no path of the repository is ever opened on a disk.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

PATH_BYTES_MAX = 1024
DEPTH_MAX = 48


class Kind(StrEnum):
    FILE = "file"
    EXECUTABLE = "executable"
    LINK = "symbolic link"
    SUBMODULE = "submodule"


@dataclass(frozen=True)
class Entry:
    """One path of the commit."""

    kind: Kind
    size: int
    object_id: str

    @property
    def regular(self) -> bool:
        return self.kind in (Kind.FILE, Kind.EXECUTABLE)


Listing = Mapping[str, Entry]
ReadFile = Callable[[str], bytes]
"""Reads one regular file of the listing by its path; what is read is already bounded by the entry's size."""

_KINDS = {"100644": Kind.FILE, "100664": Kind.FILE, "100755": Kind.EXECUTABLE, "120000": Kind.LINK}


class BadListing(Exception):
    """The commit holds something that cannot be taken over; `str()` is a sentence for the author."""


def parse_listing(raw: bytes) -> dict[str, Entry]:
    """The entries by path. Raises BadListing for names that no author means well with."""
    entries = (_entry(record) for record in raw.split(b"\0") if record)
    return dict(entries)


def _entry(record: bytes) -> tuple[str, Entry]:
    head, _, raw_path = record.partition(b"\t")
    mode, _, object_id, size = head.decode("ascii").split()
    kind = Kind.SUBMODULE if mode == "160000" else _KINDS.get(mode)
    path = _checked(raw_path)
    if kind is None:
        raise BadListing(f"{path!r} has the unknown mode {mode} in git; add the file to the repository again.")
    return path, Entry(kind, 0 if size == "-" else int(size), object_id)


def _checked(raw: bytes) -> str:
    shown = raw[:80].decode("utf-8", "replace")
    try:
        path = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadListing(f"The file name {shown!r} is not UTF-8; rename the file.") from None
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise BadListing(f"The path {shown!r} contains `.`, `..` or `.git`; rename the file.")
    if len(raw) > PATH_BYTES_MAX or len(parts) > DEPTH_MAX or any(len(part.encode()) > 255 for part in parts):
        raise BadListing(f"The path {shown!r}… is too long or too deep; rename the file.")
    return path


def total_size(files: Iterable[Entry]) -> int:
    return sum(entry.size for entry in files if entry.regular)
