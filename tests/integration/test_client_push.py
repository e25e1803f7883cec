"""A folder becomes a commit on `main`, by real git: wherever it lies, and without what nobody means to publish."""

from pathlib import Path

import pytest

from orchestrator.client.push import PushFailed, left_out_line, prepared, push
from orchestrator.errors import Invalid
from tests.support.git import git

FILES = {"app.py": "x = 1", "sub/part.py": "y = 2"}


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    bare = tmp_path / "remote.git"
    git("init", "-q", "--bare", "-b", "main", str(bare), cwd=tmp_path)
    return bare


def filled(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def files_of(remote: Path) -> list[str]:
    return git("ls-tree", "-r", "--name-only", "main", cwd=remote).split()


@pytest.mark.parametrize(
    ("working", "given"),
    [(".", "my/app"), ("my", "app"), ("my/app", "."), ("my/app/sub", ".."), ("my/other", "../app")],
)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside a repository"])
def test_a_folder_is_pushed_by_any_relative_path(tmp_path, remote, monkeypatch, working, given, inside):
    filled(tmp_path / "my" / "app", FILES)
    (tmp_path / "my" / "other").mkdir()
    if inside:
        git("init", "-q", str(tmp_path / "my"), cwd=tmp_path)
    monkeypatch.chdir(tmp_path / working)
    push(Path(given), str(remote), token="", show=lambda _line: None)
    assert files_of(remote) == ["app.py", "sub/part.py"]
    assert git("log", "-1", "--format=%s", "main", cwd=remote).strip() == "Push app"


def test_what_nobody_means_to_publish_is_left_out_and_named(tmp_path, remote):
    unwanted = (".env", ".env.local", ".venv/x", "venv/x", "sub/__pycache__/x.pyc", "node_modules/x/y.js")
    folder = filled(tmp_path / "app", FILES | dict.fromkeys(unwanted, "x"))
    with prepared(folder, "", token="") as commit:
        assert sorted(commit.left_out) == sorted(
            (".env", ".env.local", ".venv/", "venv/", "sub/__pycache__/", "node_modules/")
        )
        commit.push(str(remote), token="", show=lambda _line: None)
    assert files_of(remote) == ["app.py", "sub/part.py"]


def test_the_authors_own_gitignore_takes_files_in_again(tmp_path, remote):
    folder = filled(tmp_path / "app", {"app.py": "x", ".env.example": "x", ".gitignore": "!.env.example\nsub/\n"})
    filled(folder, {"sub/left": "x"})
    with prepared(folder, str(remote), token="") as commit:
        assert commit.left_out == ()
        commit.push(str(remote), token="", show=lambda _line: None)
    assert files_of(remote) == [".env.example", ".gitignore", "app.py"]


def test_the_left_out_are_told_in_one_line():
    assert left_out_line(()) == ""
    line = left_out_line([f"{n}/" for n in range(9)])
    assert "Left out: 0/, 1/, 2/, 3/, 4/, 5/ and 3 more." in line
    assert "`!0/`" in line


@pytest.mark.parametrize("kind", ["folder", "repository"])
def test_an_unchanged_folder_is_known_as_one(tmp_path, remote, kind):
    folder = filled(tmp_path / "app", FILES)
    if kind == "repository":
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
            git(*arguments, cwd=folder)
    for expected in (True, False):
        with prepared(folder, str(remote), token="") as commit:
            assert commit.changed is expected
            commit.push(str(remote), token="", show=lambda _line: None)
    filled(folder, {"app.py": "x = 2"})
    with prepared(folder, str(remote), token="") as commit:
        assert commit.changed is (kind == "folder"), "of a repository only what is committed counts"


def test_a_folder_without_files_is_refused_before_anything_is_asked(tmp_path):
    filled(tmp_path / "app", {".env": "x"})
    with pytest.raises(Invalid, match="no files"), prepared(tmp_path / "app", "", token=""):
        pass


def test_a_remote_that_is_not_there_says_what_git_says(tmp_path):
    filled(tmp_path / "app", FILES)
    with pytest.raises(PushFailed, match="git failed"), prepared(tmp_path / "app", str(tmp_path / "no"), token=""):
        pass
