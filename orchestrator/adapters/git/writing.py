"""One commit as a stream for `git fast-import`: atomic, without a working tree, in a single process."""

import re
from collections.abc import Mapping

from orchestrator.errors import Invalid

_AUTHOR_JUNK = re.compile(r"[<>\x00-\x1f\x7f]")


def commit_stream(files: Mapping[str, bytes], *, message: str, author: str, now: float, initial: bool) -> bytes:
    """The stream that makes one commit on `main` with these files added or replaced, and prints its id.

    Raises Invalid for a path that no repository may hold.
    """
    name = _AUTHOR_JUNK.sub("", author).strip()[:100] or "Dormouse"
    who = f"{name} <{re.sub(r'[^A-Za-z0-9_.-]', '', name) or 'dormouse'}@localhost> {int(now)} +0000"
    text = message.encode()
    parts = [f"commit refs/heads/main\nmark :1\nauthor {who}\ncommitter {who}\ndata {len(text)}\n".encode(), text]
    if not initial:
        parts.append(b"\nfrom refs/heads/main^0")
    for path, content in files.items():
        parts.append(f"\nM 100644 inline {_quoted(path)}\ndata {len(content)}\n".encode())
        parts.append(content)
    parts.append(b"\n\nget-mark :1\ndone\n")
    return b"".join(parts)


def _quoted(path: str) -> str:
    pieces = path.split("/")
    bad = any(piece in ("", ".", "..") or piece.lower() == ".git" for piece in pieces)
    if bad or len(path) > 4096 or re.search(r"[\x00-\x1f\x7f]", path):
        raise Invalid(f"{path[:200]!r} cannot be a path in a repository: write a relative path without '..'.")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
