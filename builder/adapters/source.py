"""Fetches exactly one commit over HTTP and reads it from git's own store, without ever checking it out.

The order's token goes to git through its environment (`GIT_CONFIG_*`), never on a command line, into a file or a URL.
Nothing of the user's or the machine's git configuration applies, and no other protocol than HTTP(S) is spoken.
One `git cat-file --batch` serves all reads of a build.
"""

import base64
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.adapters.control import Control, Superseded
from builder.adapters.process import OutputTooLarge, run, start
from builder.contract import BuildOrder
from builder.domain.tree import BadListing, Entry, parse_listing
from builder.failures import BuildFailed, broken
from builder.sandbox.trees import remove_tree

USER = "build"
ALLOCATION_MAX = "512m"
"""What git may allocate at once. It streams large files, but builds those in memory that are packed as a difference."""
_TRIES = 6
_RETRY_S = 0.25
_FINAL = re.compile(r"not our ref|HTTP 40[134]|error: 40[134]|Authentication failed|not found", re.IGNORECASE)
_REFUSED = re.compile(r"HTTP 40[13]|error: 40[13]|Authentication failed|could not read", re.IGNORECASE)
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Commit:
    sha: str
    tree: str
    time_s: int
    """Committer's time, as the commit says; the author can write what they like."""


class Repository:
    """The fetched commit. Reads block; use it from one thread."""

    def __init__(self, folder: Path, sha: str, control: Control, files_max: int) -> None:
        self._folder, self._control = folder, control
        self._env = _environment()
        self._reader: subprocess.Popen[bytes] | None = None
        self._files_max = files_max
        self.sha = sha

    def listing(self) -> dict[str, Entry]:
        """Every path of the commit. Raises BuildFailed for what cannot be taken over."""
        argv = ["git", "--git-dir", str(self._folder), "ls-tree", "-r", "-l", "-z", "--full-tree", self.sha]
        try:
            done = run(argv, control=self._control, env=self._env, output_max=self._files_max * 160 + 65536)
            if done.code:
                raise broken(f"The commit cannot be listed: {done.err[-300:]}")
            files = parse_listing(done.out)
        except (BadListing, OutputTooLarge) as error:
            message = str(error) or f"The commit has more than {self._files_max} files; remove some."
            raise BuildFailed("bad-path", message, stage="CONFIG_ERROR") from error
        return files

    def commit(self) -> Commit:
        raw = b"".join(self._object(self.sha))
        head = raw.split(b"\n\n", 1)[0].decode("utf-8", "replace")
        tree = re.search(r"^tree ([0-9a-f]+)$", head, re.MULTILINE)
        when = re.search(r"^committer .*> (-?\d{1,15}) ", head, re.MULTILINE)
        if tree is None:
            raise broken("The commit cannot be read.")
        return Commit(self.sha, tree[1], int(when[1]) if when else 0)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The beginning of a file."""
        kept = bytearray()
        for chunk in self._object(entry.object_id):
            kept += chunk[: limit - len(kept)]
        return bytes(kept)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """A file of any size, in parts. Take them all before the next read."""
        return self._object(entry.object_id)

    def _object(self, object_id: str) -> Iterator[bytes]:
        if not _SHA.fullmatch(object_id):
            raise broken(f"{object_id[:80]!r} is no object of git.")
        reader = self._batch()
        assert reader.stdin
        assert reader.stdout
        try:
            reader.stdin.write(object_id.encode() + b"\n")
            reader.stdin.flush()
        except BrokenPipeError:
            self._gone()
        header = reader.stdout.readline().split()
        if len(header) != 3:
            self._gone()
        left = int(header[2])
        while left:
            chunk = reader.stdout.read(min(left, _CHUNK))
            if not chunk:
                self._gone()
            left -= len(chunk)
            yield chunk
        reader.stdout.read(1)

    def _gone(self) -> None:
        self._control.check()
        raise broken("git stopped while the files were read.")

    def _batch(self) -> "subprocess.Popen[bytes]":
        assert self._reader is not None, "the repository is only open inside of `fetched`"
        return self._reader

    @contextmanager
    def reading(self) -> Iterator[None]:
        argv = ["git", "--git-dir", str(self._folder), "cat-file", "--batch"]
        self._reader = start(argv, env=self._env, stdin=subprocess.PIPE)
        with self._control.watching(self._reader):
            try:
                yield
            finally:
                for pipe in (self._reader.stdin, self._reader.stdout, self._reader.stderr):
                    if pipe:
                        pipe.close()


@contextmanager
def fetched(order: BuildOrder, folder: Path, control: Control, *, files_max: int) -> Iterator[Repository]:
    """The order's commit, fetched into `folder`, which is removed at the end."""
    try:
        _make_repository(folder)
        _fetch(order, folder, control)
        repository = Repository(folder, order.sha, control, files_max)
        with repository.reading():
            yield repository
    finally:
        remove_tree(folder)


def _make_repository(folder: Path) -> None:
    """What `git init --bare` makes, without starting a process for it."""
    for name in ("objects", "refs"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")


def _fetch(order: BuildOrder, folder: Path, control: Control) -> None:
    if not _SHA.fullmatch(order.sha):
        raise broken(f"{order.sha[:80]!r} is no commit.")
    argv = ["git", "--git-dir", str(folder), "fetch", "-q", "--depth", "1", "--no-tags", "--no-write-fetch-head"]
    argv += ["--no-auto-maintenance", "--no-recurse-submodules"]
    for attempt in range(_TRIES):
        done = run([*argv, order.repository_url, order.sha], control=control, env=_environment(order.token))
        if done.code == 0:
            return
        if _REFUSED.search(done.err):
            raise Superseded("The order's token is not accepted any more.")
        if _FINAL.search(done.err):
            raise BuildFailed("no-commit", f"The commit {order.sha[:8]} is not in the repository any more.")
        control.stopped.wait(_RETRY_S * 2**attempt)
        control.check()
    raise broken("The repository could not be fetched, because Dormouse's own server did not answer.")


def _environment(token: str = "") -> Mapping[str, str]:
    settings = {
        "protocol.allow": "never",
        "protocol.http.allow": "always",
        "protocol.https.allow": "always",
        "http.followRedirects": "false",
        "gc.auto": "0",
        "fetch.unpackLimit": "1",
        "core.hooksPath": "/dev/null",
        "core.bigFileThreshold": "32m",
    }
    if token:
        basic = base64.b64encode(f"{USER}:{token}".encode()).decode()
        settings["http.extraHeader"] = f"Authorization: Basic {basic}"
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ALLOC_LIMIT": ALLOCATION_MAX,
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for number, (key, value) in enumerate(settings.items()):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env
