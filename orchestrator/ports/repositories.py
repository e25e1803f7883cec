"""Git repositories of Spaces."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.domain.names import CommitSha


@dataclass(frozen=True, kw_only=True)
class Commit:
    sha: CommitSha
    title: str
    message: str
    author: str
    at: float


@dataclass(frozen=True, kw_only=True)
class TreeEntry:
    path: str
    kind: str
    """file, directory, symlink or submodule."""
    oid: str
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A branch or tag. `ref` is the full name, for instance refs/heads/main."""

    name: str
    ref: str
    sha: CommitSha


@dataclass(frozen=True, kw_only=True)
class GitServer:
    """How to run git's own server side for one request: it speaks the smart protocol on its standard streams."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


class Repositories(Protocol):
    """All methods block; call them through `asyncio.to_thread`. Repositories are addressed by the Space's id."""

    def create(
        self, space_id: str, files: dict[str, bytes] | None = None, *, author: str = "", now: float
    ) -> CommitSha | None:
        """A bare repository, with one initial commit on `main` if `files` are given. Repeatable."""
        ...

    def delete(self, space_id: str) -> None:
        """Silent if it is gone."""
        ...

    def path(self, space_id: str) -> str:
        """Folder of the bare repository."""
        ...

    def resolve(self, space_id: str, revision: str) -> CommitSha | None:
        """The commit that a branch, tag, ref or commit id names."""
        ...

    def commit(self, space_id: str, sha: CommitSha) -> Commit: ...

    def commits(self, space_id: str, revision: str, *, limit: int = 50, skip: int = 0) -> Sequence[Commit]: ...

    def tree(self, space_id: str, revision: str, path: str = "", *, recursive: bool = False) -> Sequence[TreeEntry]:
        """Raises Missing (kind revision or entry)."""
        ...

    def entry(self, space_id: str, revision: str, path: str) -> TreeEntry | None: ...

    def entries(self, space_id: str, revision: str, paths: Sequence[str]) -> Sequence[TreeEntry]:
        """Those of `paths` that exist. Raises Missing (kind revision)."""
        ...

    def refs(self, space_id: str) -> Sequence[Ref]:
        """Branches and tags."""
        ...

    def read(self, space_id: str, oid: str, *, limit: int) -> bytes:
        """Content of a blob, cut at `limit` bytes."""
        ...

    def stream(self, space_id: str, oid: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Content of a blob in pieces, in bounded memory. Closing the iterator ends the reading."""
        ...

    def write(self, space_id: str, files: dict[str, bytes], *, message: str, author: str, now: float) -> CommitSha:
        """One commit on `main` with these files added or replaced."""
        ...

    def server(
        self, space_id: str, service: str, *, advertise: bool, protocol: str, user_id: str, push_bytes_max: int
    ) -> GitServer:
        """Git's server side (`upload-pack` or `receive-pack`) for one request over HTTP.

        `protocol` is the client's `Git-Protocol` header. After a push it tells the internal API which refs moved.
        """
        ...
