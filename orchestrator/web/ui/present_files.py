"""From git's answers to what the file pages show.

Nothing of a repository is ever rendered: a file is text in lines, or a notice that says why it is not shown.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from orchestrator.errors import Missing
from orchestrator.ports.repositories import Commit, TreeEntry
from orchestrator.web.ui import text
from orchestrator.web.ui.view_models import CommitView, Crumb, FileRow

VIEW_BYTES_MAX = 256 * 1024
"""Of a file; more is offered as a download."""
VIEW_LINES_MAX = 3000
LINE_CHARS_MAX = 2000
TREE_ROWS_MAX = 500
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Place:
    """Revision and path of an address below /tree/ or /blob/."""

    revision: str
    path: str


def parse_place(raw_path: bytes, kind: str) -> Place:
    """Read `.../<kind>/<revision>/<path>` from the undecoded path, so that `%2F` may stand in a revision."""
    parts = raw_path.partition(b"?")[0].decode("ascii", "replace").split("/")
    # /spaces/<owner>/<name>/<kind>/<revision>/<path...>
    tail = parts[5:] if len(parts) > 4 and parts[4] == kind else []
    names = [unquote(part) for part in tail]
    revision, path = (names[0] if names else "") or "main", [name for name in names[1:] if name]
    if any(name in (".", "..") or "\0" in name for name in path) or revision.startswith("-") or len(raw_path) > 8000:
        raise Missing("There is no such file in this Space.", kind="entry")
    return Place(revision, "/".join(path))


def address(base: str, kind: str, revision: str, path: str = "") -> str:
    """Path of a file page."""
    tail = f"/{quote(path)}" if path else ""
    return f"{base}/{kind}/{quote(revision, safe='')}{tail}"


def crumbs(base: str, place: Place, root: str) -> tuple[Crumb, ...]:
    """The way from the repository's root to the place; the last one is no link."""
    names = place.path.split("/") if place.path else []
    found = [Crumb(name=root, path=address(base, "tree", place.revision) if names else "")]
    for position, name in enumerate(names):
        last = position == len(names) - 1
        here = "/".join(names[: position + 1])
        found.append(Crumb(name=text.tidy(name), path="" if last else address(base, "tree", place.revision, here)))
    return tuple(found)


def file_rows(base: str, place: Place, entries: Sequence[TreeEntry]) -> tuple[FileRow, ...]:
    """Folders first, each group by name."""
    ordered = sorted(entries, key=lambda entry: (entry.kind != "directory", entry.path.lower()))
    return tuple(
        FileRow(
            name=text.tidy(entry.path.rpartition("/")[2], 300),
            path=address(base, "tree" if entry.kind == "directory" else "blob", place.revision, entry.path),
            kind=entry.kind,
            size=text.size(entry.size) if entry.kind == "file" else "",
        )
        for entry in ordered[:TREE_ROWS_MAX]
    )


def commit_view(commit: Commit, *, now: float) -> CommitView:
    return CommitView(
        sha=commit.sha,
        short=commit.sha[:7],
        title=text.tidy(commit.title),
        author=text.tidy(commit.author, 80),
        at=text.moment(commit.at, now),
    )


def content(entry: TreeEntry, data: bytes) -> tuple[tuple[str, ...], str]:
    """(lines, notice) of a file of which `data` is the beginning; no lines where there is no text to show."""
    if entry.kind == "symlink":
        return (
            (),
            f"This is a symbolic link to {text.tidy(data.decode('utf-8', 'replace'), 300)!r}. It is not followed.",
        )
    if entry.kind == "submodule":
        return (), "This is a submodule: its files are in another repository and are not kept here."
    if data.startswith(_POINTER):
        return (), "This file is kept outside of git (LFS). Download it to see it."
    if b"\0" in data[:8192]:
        return (), f"This is a binary file of {text.size(entry.size)}, so it is not shown."
    shown = data[:VIEW_BYTES_MAX]
    lines = shown.decode("utf-8", "replace").splitlines()
    cut = entry.size > VIEW_BYTES_MAX or len(lines) > VIEW_LINES_MAX
    if not entry.size:
        return (), "This file is empty."
    notice = f"Only the beginning of this file ({text.size(entry.size)}) is shown." if cut else ""
    return tuple(_line(line) for line in lines[:VIEW_LINES_MAX]), notice


def _line(line: str) -> str:
    # Marks that turn the direction of a line can make code read as what it is not; they are shown as what they are.
    shown = "".join(f"[U+{ord(char):04X}]" if _is_unseen(char) else char for char in line[:LINE_CHARS_MAX])
    return shown + (" … (line cut)" if len(line) > LINE_CHARS_MAX else "")


def _is_unseen(char: str) -> bool:
    return not char.isprintable() and char not in "\t\u200c\u200d" and unicodedata.category(char) in ("Cc", "Cf")
