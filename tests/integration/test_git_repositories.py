"""The port `Repositories` over real git."""

import threading
from pathlib import Path

import pytest

from orchestrator.adapters.git import GitRepositories
from orchestrator.domain.names import CommitSha
from orchestrator.errors import Bug, Invalid, Missing
from tests.support.git import git

FILES = {"README.md": b"---\ntitle: x\n---\n", "src/app.py": b"print()\n", "src/deep/data.bin": bytes(range(256)) * 40}


@pytest.fixture
def repositories(tmp_path: Path) -> GitRepositories:
    found = GitRepositories(tmp_path)
    found.create("s1", FILES, author="ann <x>\n", now=1_700_000_000.0)
    return found


def test_create_may_be_repeated_and_writes_its_commit_once(repositories: GitRepositories) -> None:
    again = repositories.create("s1", {"other": b"x"}, author="ann", now=2.0)
    assert again == repositories.resolve("s1", "main")
    assert [commit.title for commit in repositories.commits("s1", "main")] == ["Initial commit"]
    assert repositories.create("empty", now=1.0) is None


def test_commits_say_who_and_when(repositories: GitRepositories) -> None:
    sha = repositories.write("s1", {"a": b"1"}, message="Title\n\nBody ä\n", author="bob", now=1_700_000_100.5)
    commit = repositories.commit("s1", sha)
    assert (commit.title, commit.message, commit.author, commit.at) == (
        "Title",
        "Title\n\nBody ä",
        "bob",
        1_700_000_100,
    )
    assert repositories.commits("s1", "main", limit=1, skip=1)[0].author == "ann x"
    with pytest.raises(Missing):
        repositories.commit("s1", CommitSha("0" * 40))


def test_revisions_are_names_not_expressions(repositories: GitRepositories) -> None:
    sha = repositories.resolve("s1", "main")
    path = Path(repositories.path("s1"))
    git("tag", "-a", "v1", "-m", "x", "main", cwd=path)
    git("update-ref", "refs/heads/a/b", "main", cwd=path)
    assert sha is not None
    for name in ("main", "HEAD", "v1", "a/b", "refs/heads/main", "refs/tags/v1", sha, sha[:9]):
        assert repositories.resolve("s1", name) == sha, name
    for name in (
        "main~0",
        "main^{/x}",
        ":/x",
        "main@{0}",
        "../main",
        "--all",
        "",
        "x" * 5000,
        "main:README.md",
        "0" * 40,
        "é",
    ):
        assert repositories.resolve("s1", name) is None, name
    assert {ref.ref for ref in repositories.refs("s1")} == {"refs/heads/main", "refs/heads/a/b", "refs/tags/v1"}


def test_trees_and_entries(repositories: GitRepositories) -> None:
    assert {entry.path: entry.kind for entry in repositories.tree("s1", "main")} == {
        "README.md": "file",
        "src": "directory",
    }
    assert {entry.path for entry in repositories.tree("s1", "main", "src/", recursive=True)} == {
        "src/app.py", "src/deep", "src/deep/data.bin",
    }  # fmt: skip
    found = repositories.entries("s1", "main", ["src", "src/app.py", "nope", "../x", "/", "a\nb", ":(top)src"])
    assert {entry.path for entry in found} == {"src", "src/app.py"}
    for bad in ("nope", "README.md"):
        with pytest.raises(Missing) as told:
            repositories.tree("s1", "main", bad)
        assert told.value.kind == "entry"
    with pytest.raises(Missing) as told:
        repositories.tree("s1", "nope")
    assert told.value.kind == "revision"


def test_contents_in_parts(repositories: GitRepositories) -> None:
    entry = repositories.entry("s1", "main", "src/deep/data.bin")
    assert entry is not None
    content = FILES["src/deep/data.bin"]
    assert entry.size == len(content)
    assert repositories.read("s1", entry.oid, limit=100) == content[:100]
    assert b"".join(repositories.stream("s1", entry.oid, start=300, length=500)) == content[300:800]
    assert b"".join(repositories.stream("s1", entry.oid, start=10_000)) == content[10_000:]
    pieces = repositories.stream("s1", entry.oid)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]


def test_a_tree_that_is_huge_only_by_repetition_is_not_listed(repositories: GitRepositories, tmp_path: Path) -> None:
    path = Path(repositories.path("s1"))
    tree = git("rev-parse", "main:src", cwd=path).strip()
    for _ in range(7):
        entries = b"".join(b"40000 folder-with-a-name-%02d\0" % n + bytes.fromhex(tree) for n in range(20))
        (tmp_path / "tree").write_bytes(entries)
        tree = git("hash-object", "-t", "tree", "-w", str(tmp_path / "tree"), cwd=path).strip()
    commit = CommitSha(git("commit-tree", tree, "-m", "bomb", cwd=path).strip())
    with pytest.raises(Invalid, match="more in this repository"):
        repositories.tree("s1", commit, recursive=True)
    assert len(repositories.tree("s1", commit)) == 20


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/../b", ".git/config", "a/.GIT/x", "a\nb", "x\0", ""])
def test_paths_that_no_repository_may_hold_are_not_written(repositories: GitRepositories, path: str) -> None:
    with pytest.raises(Invalid):
        repositories.write("s1", {path: b""}, message="m", author="ann", now=1.0)


def test_two_writers_lose_nothing(repositories: GitRepositories) -> None:
    def write(number: int) -> None:
        repositories.write("s1", {f'odd "name" \\ {number}': b"x"}, message=str(number), author="ann", now=1.0)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(repositories.commits("s1", "main")) == 7
    assert sum(1 for entry in repositories.tree("s1", "main") if entry.path.startswith("odd")) == 6


def test_delete_is_silent_and_ids_are_no_paths(repositories: GitRepositories) -> None:
    repositories.delete("s1")
    repositories.delete("s1")
    assert repositories.resolve("s1", "main") is None
    with pytest.raises(Bug):
        repositories.path("../x")
