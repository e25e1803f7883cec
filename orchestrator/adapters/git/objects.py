"""What git prints, as values: trees, commits, refs; and which names of revisions are looked up at all.

Revisions are looked up by a list of exact candidates, never by git's own language for them: `main^{/regex}` or
`main~1000000` from a stranger would cost us whatever he likes. Names in trees are bytes to git; those that are no
UTF-8 are shown with replacement characters. Pure: values in, values out.
"""

import re
from collections.abc import Iterator, Sequence

from orchestrator.domain.names import CommitSha, is_sha
from orchestrator.ports.repositories import Commit, Ref, TreeEntry

COMMIT_FORMAT = "%H%x00%an%x00%at%x00%s%x00%B"
_FIELDS = 5
_KINDS = {"120000": "symlink", "160000": "submodule", "040000": "directory"}
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|\.lock(/|$)|(^|/)\.")
_SHORT_SHA = re.compile(r"[0-9a-f]{7,39}")
REVISION_MAX = 400


def candidates(revision: str) -> Sequence[str]:
    """Exact names under which `revision` may be found, best first; empty if it cannot name anything."""
    if is_sha(revision):
        return (revision,)
    if not revision or len(revision) > REVISION_MAX or _BAD_REF.search(revision) or revision.startswith("-"):
        return ()
    if revision == "HEAD":
        return ("refs/heads/main",)
    if revision.startswith("refs/"):
        return (revision,)
    names = (f"refs/heads/{revision}", f"refs/tags/{revision}")
    return (*names, revision) if _SHORT_SHA.fullmatch(revision) else names


def first_commit(answer: bytes) -> CommitSha | None:
    """The first hit in the output of `cat-file --batch-check` for the candidates."""
    for line in answer.decode("utf-8", "replace").splitlines():
        words = line.split(" ")
        if len(words) == 3 and words[1] == "commit" and is_sha(words[0]):
            return CommitSha(words[0])
    return None


def parse_tree(output: bytes, prefix: str = "") -> Iterator[TreeEntry]:
    """Entries in the output of `ls-tree -z -l`."""
    for record in output.split(b"\0"):
        if not record:
            continue
        facts, _, name = record.partition(b"\t")
        mode, _, oid, size = facts.decode("ascii").split()
        path = prefix + name.decode("utf-8", "replace")
        yield TreeEntry(path=path, kind=_KINDS.get(mode, "file"), oid=oid, size=int(size) if size.isdigit() else 0)


def parse_commits(output: bytes) -> Iterator[Commit]:
    """Commits in the output of `log -z` in COMMIT_FORMAT; a record cut off at the end is left out."""
    fields = output.decode("utf-8", "replace").split("\0")
    for index in range(0, len(fields) - _FIELDS + 1, _FIELDS):
        sha, author, at, title, message = fields[index : index + _FIELDS]
        yield Commit(
            sha=CommitSha(sha),
            title=title[:500],
            message=message.strip()[:20_000],
            author=author[:200],
            at=float(at) if at.isdigit() else 0.0,
        )


def parse_refs(output: bytes) -> Iterator[Ref]:
    """Branches and tags in the output of `for-each-ref` in REF_FORMAT; a tag of no commit is left out."""
    for line in output.decode("utf-8", "replace").splitlines():
        ref, kind, oid, peeled_kind, peeled = (line.split(" ") + [""] * 5)[:5]
        sha = oid if kind == "commit" else peeled if peeled_kind == "commit" else ""
        if is_sha(sha):
            yield Ref(name=ref.split("/", 2)[2], ref=ref, sha=CommitSha(sha))


REF_FORMAT = "%(refname) %(objecttype) %(objectname) %(*objecttype) %(*objectname)"


def check_path(path: str) -> str | None:
    """The path without slashes at its ends, or None where no tree can hold such a path."""
    path = path.strip("/")
    parts = path.split("/")
    if "\0" in path or len(path) > 4096 or (path and any(part in ("", ".", "..") for part in parts)):
        return None
    return path
