"""Bare git repositories in `repositories/<space id>.git`, read and written by git's plumbing.

Why real git and not a library: what an author pushes is judged by the same program that he pushed with, and a push of
a gigabyte is git's business, in git's memory. Repositories are found by the Space's id alone, so no name of a person
ever becomes part of a path.
"""

import contextlib
import functools
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.sandbox.trees import remove_tree
from orchestrator.adapters.git import command, objects, writing
from orchestrator.domain.names import CommitSha, is_sha
from orchestrator.errors import Bug, Conflict, Invalid, Missing
from orchestrator.ports.repositories import Commit, GitServer, Ref, TreeEntry

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TRIES = 4
_REFS_MAX = 2000
_FIRST = "refs/dormouse/first"
"""The commit that a repository began with; hidden from clients."""
# Faults of old or odd programs that harm nobody; everything else that fsck finds refuses the push.
_HARMLESS = ("zeroPaddedFilemode", "missingSpaceBeforeDate", "badTimezone", "badDateOverflow", "missingEmail")
_BOTH_WAYS = ("uploadpack.allowReachableSHA1InWant=true", "uploadpack.allowAnySHA1InWant=true",
              "uploadpack.allowFilter=true", "gc.autoDetach=false", "transfer.advertiseSID=false",
              "transfer.hideRefs=refs/dormouse")  # fmt: skip
_RECEIVE = ("receive.fsckObjects=true", "receive.denyDeleteCurrent=refuse", "receive.denyNonFastForwards=false",
            "receive.keepAlive=5", *(f"receive.fsck.{fault}=ignore" for fault in _HARMLESS))  # fmt: skip


class GitRepositories:
    """The port `Repositories` on a folder."""

    def __init__(self, data: Path) -> None:
        self._data = data.absolute()
        self._folder = self._data / "repositories"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._hooks = _install_hooks(self._data)
        self._locks: dict[str, threading.Lock] = {}

    # --- life -------------------------------------------------------------------------------------------------
    def create(
        self, space_id: str, files: dict[str, bytes] | None = None, *, author: str = "", now: float
    ) -> CommitSha | None:
        path = self._path(space_id)
        if not (path / "HEAD").exists():
            command.run(None, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(path))
        head = self.resolve(space_id, "main")
        if head is None and files:
            head = self._write(space_id, files, message="Initial commit", author=author, now=now)
            command.run(path, "update-ref", _FIRST, head)
        return head

    def delete(self, space_id: str) -> None:
        path = self._path(space_id)
        with contextlib.suppress(FileNotFoundError):
            trash = Path(tempfile.mkdtemp(prefix=".deleted-", dir=self._folder))
            try:
                path.rename(trash / "repository.git")
            finally:
                remove_tree(trash)

    def path(self, space_id: str) -> str:
        return str(self._path(space_id))

    def _path(self, space_id: str) -> Path:
        if not _ID.fullmatch(space_id):
            raise Bug(f"{space_id!r} is no id of a Space")
        return self._folder / f"{space_id}.git"

    # --- reading ----------------------------------------------------------------------------------------------
    def resolve(self, space_id: str, revision: str) -> CommitSha | None:
        path = self._path(space_id)
        names = objects.candidates(revision)
        if not names or not path.exists():
            return None
        question = "".join(f"{name}^{{commit}}\n" for name in names).encode("utf-8", "replace")
        return objects.first_commit(command.run(path, "cat-file", "--batch-check", data=question))

    def commit(self, space_id: str, sha: CommitSha) -> Commit:
        commits = self.commits(space_id, sha, limit=1)
        if not commits:
            raise Missing(f"There is no commit {sha[:40]} in this repository.", "revision")
        return commits[0]

    def commits(self, space_id: str, revision: str, *, limit: int = 50, skip: int = 0) -> Sequence[Commit]:
        sha = self._commit(space_id, revision)
        output = command.run(
            self._path(space_id), "log", "-z", "--no-show-signature", f"--format={objects.COMMIT_FORMAT}",
            f"--max-count={limit}", f"--skip={skip}", sha, "--",
        )  # fmt: skip
        return list(objects.parse_commits(output))

    def tree(self, space_id: str, revision: str, path: str = "", *, recursive: bool = False) -> Sequence[TreeEntry]:
        top, prefix = self._commit(space_id, revision), ""
        if path.strip("/"):
            folder = self.entry(space_id, top, path)
            if folder is None or folder.kind != "directory":
                raise Missing(f"There is no folder {path[:200]!r} in revision {revision[:60]!r}.", "entry")
            top, prefix = CommitSha(folder.oid), folder.path + "/"
        deep = ("-r", "-t") if recursive else ()
        output = command.run(self._path(space_id), "ls-tree", "-z", "-l", *deep, top)
        return list(objects.parse_tree(output, prefix))

    def entry(self, space_id: str, revision: str, path: str) -> TreeEntry | None:
        found = self.entries(space_id, revision, [path])
        return found[0] if found else None

    def entries(self, space_id: str, revision: str, paths: Sequence[str]) -> Sequence[TreeEntry]:
        sha = self._commit(space_id, revision)
        wanted = sorted({clean for path in paths if (clean := objects.check_path(path))})
        found: list[TreeEntry] = []
        for first in range(0, len(wanted), 200):
            batch = wanted[first : first + 200]
            # -t, or a folder would be left out whenever something below it is asked for too.
            output = command.run(self._path(space_id), "ls-tree", "-z", "-l", "-t", sha, "--", *batch)
            found += [entry for entry in objects.parse_tree(output) if entry.path in set(batch)]
        return list({entry.path: entry for entry in found}.values())

    def refs(self, space_id: str) -> Sequence[Ref]:
        output = command.run(
            self._path(space_id), "for-each-ref", f"--format={objects.REF_FORMAT}", f"--count={_REFS_MAX}",
            "refs/heads", "refs/tags",
        )  # fmt: skip
        return list(objects.parse_refs(output))

    def read(self, space_id: str, oid: str, *, limit: int) -> bytes:
        return b"".join(self.stream(space_id, oid, length=limit))

    def stream(self, space_id: str, oid: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if not is_sha(oid):
            raise Missing(f"{oid[:60]!r} is no object id.", "entry")
        return command.read(self._path(space_id), oid, start=start, length=length)

    def _commit(self, space_id: str, revision: str) -> CommitSha:
        sha = self.resolve(space_id, revision)
        if sha is None:
            raise Missing(f"There is no revision {revision[:100]!r} in this repository.", "revision")
        return sha

    # --- writing ----------------------------------------------------------------------------------------------
    def write(self, space_id: str, files: dict[str, bytes], *, message: str, author: str, now: float) -> CommitSha:
        return self._write(space_id, files, message=message, author=author, now=now)

    def _write(self, space_id: str, files: dict[str, bytes], *, message: str, author: str, now: float) -> CommitSha:
        lock = self._locks.setdefault(space_id, threading.Lock())
        with lock:
            for _ in range(_TRIES):
                head = self.resolve(space_id, "main")
                stream = writing.commit_stream(files, message=message, author=author, now=now, initial=head is None)
                try:
                    output = command.run(self._path(space_id), "fast-import", "--quiet", "--done", data=stream)
                except command.GitError:
                    # fast-import leaves `main` alone if a push got in between: take the new head and try again.
                    if self.resolve(space_id, "main") == head:
                        raise
                    continue
                return CommitSha(output.decode("ascii").split()[0])
        raise Conflict("The repository changed while the commit was being made; try again.")

    # --- serving ----------------------------------------------------------------------------------------------
    def _untouched(self, space_id: str) -> bool:
        """Whether `main` is still the commit that the repository began with."""
        question = f"refs/heads/main\n{_FIRST}\n".encode()
        main, first = command.run(self._path(space_id), "cat-file", "--batch-check", data=question).splitlines()
        return main == first and b" commit " in main

    def server(
        self, space_id: str, service: str, *, advertise: bool, protocol: str, user_id: str, push_bytes_max: int
    ) -> GitServer:
        if service not in ("upload-pack", "receive-pack"):
            raise Invalid(f"{service[:40]!r} is no service of git.")
        settings = [*_BOTH_WAYS, *_RECEIVE, f"receive.maxInputSize={push_bytes_max}", f"core.hooksPath={self._hooks}"]
        if advertise and service == "receive-pack" and self._untouched(space_id):
            # To an author who has not cloned, the repository looks empty: the first push needs no --force.
            # The hook pre-receive takes the first commit away then.
            settings.append("receive.hideRefs=refs/heads/main")
        extra = {"DORMOUSE_RUN": str(self._data / "run"), "DORMOUSE_SPACE_ID": space_id, "DORMOUSE_USER_ID": user_id}
        if re.fullmatch(r"version=[0-2]", protocol):
            extra["GIT_PROTOCOL"] = protocol
        mode = ["--http-backend-info-refs"] if advertise else []
        line = command.arguments(None, service, "--stateless-rpc", *mode, self.path(space_id), settings=settings)
        return GitServer(arguments=tuple(line), environment=command.environment(extra))


_PRE_RECEIVE = f"""\
#!/bin/sh
# A first push of a history of its own: the commit that the repository began with makes way for it.
main=$(git rev-parse --quiet --verify refs/heads/main) || exit 0
first=$(git rev-parse --quiet --verify {_FIRST}) || exit 0
while read -r old new ref; do
    case $old in *[!0]*) continue ;; esac
    if [ "$ref" = refs/heads/main ] && [ "$main" = "$first" ]; then
        env -u GIT_QUARANTINE_PATH git update-ref -d refs/heads/main "$first" || exit 1
    fi
done
exit 0
"""


@functools.cache
def _post_receive() -> str:
    program = Path(__file__).with_name("hooks") / "post_receive.py"
    quoted = [part.replace("'", "'\\''") for part in (sys.executable, str(program))]
    return f"#!/bin/sh\nexec '{quoted[0]}' -I -S '{quoted[1]}'\n"


def _install_hooks(data: Path) -> Path:
    """A folder with the hooks that git runs around a push; written anew, since the interpreter may have moved."""
    folder = data / "hooks"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("pre-receive", _PRE_RECEIVE), ("post-receive", _post_receive())):
        hook = folder / name
        if hook.exists() and hook.read_text() == text:
            continue
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o755)
        Path(file.name).rename(hook)
    return folder
