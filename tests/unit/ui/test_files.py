"""Addresses of files, and what of their content is shown."""

import pytest

from orchestrator.domain.lifecycle import Stage
from orchestrator.errors import Missing
from orchestrator.ports.repositories import TreeEntry
from orchestrator.web.ui import present_files
from orchestrator.web.ui.present_files import Place
from tests.unit.ui.test_render import SPACE, check_rules, client
from tests.unit.ui.world import World, stage_world


@pytest.mark.parametrize(("raw", "place"), [
    (b"/spaces/a/b/tree", Place("main", "")),
    (b"/spaces/a/b/tree/", Place("main", "")),
    (b"/spaces/a/b/tree/main/src/lib", Place("main", "src/lib")),
    (b"/spaces/a/b/tree/refs%2Fpr%2F1/a%20b", Place("refs/pr/1", "a b")),
    (b"/spaces/a/b/tree/main/tree/blob", Place("main", "tree/blob")),
    (b"/spaces/a/b/tree/main/100%25", Place("main", "100%")),
    (b"/spaces/a/b/tree/main//x/", Place("main", "x")),
])  # fmt: skip
def test_place_of_an_address(raw: bytes, place: Place) -> None:
    assert present_files.parse_place(raw, "tree") == place


@pytest.mark.parametrize("raw", [
    b"/spaces/a/b/tree/main/../x", b"/spaces/a/b/tree/main/%2e%2e/x", b"/spaces/a/b/tree/--upload-pack=x/y",
    b"/spaces/a/b/tree/main/%00", b"/spaces/a/b/tree/main/" + b"a" * 9000,
])  # fmt: skip
def test_odd_addresses_name_nothing(raw: bytes) -> None:
    with pytest.raises(Missing):
        present_files.parse_place(raw, "tree")


def entry(size: int, kind: str = "file") -> TreeEntry:
    return TreeEntry(path="x", kind=kind, oid="0", size=size)


def test_text_is_shown_in_lines() -> None:
    assert present_files.content(entry(6), b"a\r\nb\tc") == (("a", "b\tc"), "")


@pytest.mark.parametrize(("data", "kind", "words"), [
    (b"\x89PNG\0\0", "file", "binary file"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "file", "outside of git"),
    (b"../../etc/passwd", "symlink", "not followed"),
    (b"", "submodule", "another repository"),
])  # fmt: skip
def test_what_is_not_text_gives_a_notice(data: bytes, kind: str, words: str) -> None:
    lines, notice = present_files.content(entry(len(data), kind), data)
    assert lines == ()
    assert words in notice


def test_big_files_are_cut_and_say_so() -> None:
    lines, notice = present_files.content(entry(10_000_000), b"x\n" * 200_000)
    assert len(lines) == present_files.VIEW_LINES_MAX
    assert "Only the beginning" in notice
    (line,), _ = present_files.content(entry(100_000), b"x" * 100_000)
    assert line.endswith("(line cut)")


def test_unseen_marks_in_code_are_shown() -> None:
    (line,), _ = present_files.content(entry(20), "if a:\u202e # \u2066".encode())
    assert line == "if a:[U+202E] # [U+2066]"


def test_files_of_the_repository_are_never_html_of_ours() -> None:
    world = stage_world(Stage.RUNNING)
    world.files["index.html"] = b"<script>alert(1)</script>"
    text = client(world).get(SPACE + "/blob/main/index.html").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert f"{SPACE}/resolve/" in text


def test_missing_revision_file_and_folder_are_said_apart() -> None:
    browser = client(stage_world(Stage.RUNNING))
    for path, words in (
        ("/tree/nope", "no revision"),
        ("/blob/main/nope", "no file"),
        ("/tree/main/nope", "no folder"),
    ):
        answer = browser.get(SPACE + path)
        assert answer.status_code == 404
        assert words in answer.text
    assert (
        browser.get(SPACE + "/blob/main/assets", follow_redirects=False)
        .headers["location"]
        .endswith("/tree/main/assets")
    )
    assert browser.get(SPACE + "/tree/refs%2Fpr%2F1").status_code == 200


def test_repository_without_a_commit_shows_how_to_push() -> None:
    world = stage_world(Stage.NO_APP_FILE)
    world.files = {}
    world.spaces[0] = world.spaces[0].__class__(**{**vars(world.spaces[0]), "sha": None})
    text = client(world, "hf_mira").get(SPACE + "/tree/main").text
    check_rules(text)
    assert "No files yet" in text


def test_folders_come_first_and_many_entries_are_cut() -> None:
    world: World = stage_world(Stage.RUNNING)
    world.files = {f"f{number:04}": b"x" for number in range(700)} | {"zoo/a": b"x"}
    text = client(world).get(SPACE + "/tree/main").text
    assert text.index(">zoo<") < text.index(">f0000<")
    assert "201 further entries" in text
