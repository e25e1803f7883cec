"""Trees that strangers made: nested without end, locked, full of links."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from builder.adapters.files import remove_leftovers, seal
from builder.failures import BuildFailed
from builder.sandbox.trees import DEPTH_MAX, TreeTooDeep, disk_usage, remove_tree, walk
from builder.settings import Settings
from builder.worker import _clean
from orchestrator.flows import collect_garbage

DEEP = 1500


def nest(folder: Path, levels: int) -> None:
    """Folders in folders, each with a file, deeper than any path may be long."""
    folder.mkdir(parents=True)
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    nest(tmp_path / "deep", DEEP)
    before = descriptors()
    assert remove_tree(tmp_path / "deep")
    assert not (tmp_path / "deep").exists()
    assert descriptors() == before


def test_folders_without_rights_go_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    locked = tmp_path / "tree" / "a" / "b"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x")
    (locked / "out").symlink_to(kept)
    (tmp_path / "tree" / "absolute").symlink_to(kept)
    os.mkfifo(locked / "pipe")
    for path in (locked, locked.parent, tmp_path / "tree"):
        path.chmod(0)
    assert remove_tree(tmp_path / "tree")
    assert (kept / "file").read_text() == "x"
    (tmp_path / "link").symlink_to(kept)
    remove_tree(tmp_path / "link")
    assert (kept / "file").exists()
    assert remove_tree(tmp_path / "nothing" / "there")


def test_a_walk_sees_everything_once_and_ends_at_its_depth(tmp_path: Path) -> None:
    (tmp_path / "t" / "a" / "b").mkdir(parents=True)
    (tmp_path / "t" / "a" / "b" / "file").write_text("x")
    (tmp_path / "t" / "a" / "loop").symlink_to(tmp_path / "t")
    assert sorted(found.name for found in walk(tmp_path / "t")) == ["a", "b", "file", "loop"]
    nest(tmp_path / "deep", DEEP)
    before = descriptors()
    with pytest.raises(TreeTooDeep):
        list(walk(tmp_path / "deep"))
    assert descriptors() == before
    remove_tree(tmp_path / "deep")


def test_what_is_allocated_counts_once(tmp_path: Path) -> None:
    with (tmp_path / "reserved").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 8 << 20)
    os.link(tmp_path / "reserved", tmp_path / "again")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    used = disk_usage(tmp_path, enough=1 << 40)
    assert 8 << 20 <= used.allocated < 9 << 20
    assert used.complete
    assert 1000 < disk_usage(tmp_path, enough=1000).allocated < 9 << 20
    nest(tmp_path / "deep", DEPTH_MAX + 1)
    assert not disk_usage(tmp_path, enough=1 << 40).complete


def test_sealing_refuses_depth_with_a_sentence_and_changes_modes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "run").write_text("x")
    (tree / "bin" / "run").chmod(0o700)
    (tree / "plain").write_text("x")
    os.mkfifo(tree / "pipe")
    outside = tmp_path / "outside"
    outside.write_text("x")
    (tree / "link").symlink_to(outside)
    (tree / "bin").chmod(0)
    seal(tree)
    modes = [stat.S_IMODE((tree / name).lstat().st_mode) for name in ("bin", "bin/run", "plain")]
    assert modes == [0o755, 0o555, 0o444]
    assert not (tree / "pipe").exists()
    assert outside.stat().st_mode & 0o200
    nest(tmp_path / "deep", DEEP)
    with pytest.raises(BuildFailed, match=f"deeper than {DEPTH_MAX}"):
        seal(tmp_path / "deep")
    remove_tree(tmp_path / "deep")


def test_what_a_dead_build_left_never_stops_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments, snapshots = tmp_path / "environments", tmp_path / "snapshots" / "space"
    for path in (environments / ".left", snapshots / ".left"):
        nest(path, DEEP)
        os.utime(path, (1, 1))
    _clean(Settings(data=tmp_path))
    assert not list(environments.iterdir())
    assert not list(snapshots.iterdir())
    (environments / ".left").mkdir()
    os.utime(environments / ".left", (1, 1))
    (environments / ".young").mkdir()

    def fail(_: Path) -> bool:
        raise RecursionError

    monkeypatch.setattr("builder.adapters.files.remove_tree", fail)
    remove_leftovers(environments, older_s=10)
    assert (environments / ".young").exists()


def test_unused_environments_go_whatever_they_hold(tmp_path: Path) -> None:
    nest(tmp_path / "environment", DEEP)
    collect_garbage.remove_tree(tmp_path / "environment")
    assert not (tmp_path / "environment").exists()


@pytest.fixture(autouse=True)
def _removed(tmp_path: Path) -> object:
    """pytest's own removal of old folders is recursive."""
    yield
    remove_tree(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)
