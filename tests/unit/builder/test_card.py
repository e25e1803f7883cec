"""Front matter: what is read, what is refused, and on which line."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.domain.card import Card, read_card
from builder.domain.problems import Finding, Refusal


def card(text: str | bytes) -> Card:
    read = read_card(text.encode() if isinstance(text, str) else text)
    assert isinstance(read, Card), read
    return read


def findings(text: str | bytes) -> list[Finding]:
    read = read_card(text.encode() if isinstance(text, str) else text)
    assert not isinstance(read, Card), f"accepted: {read}"
    return read


def test_every_key_of_the_hub_is_read() -> None:
    read = card(
        """---
title: Readability
emoji: 📖
colorFrom: indigo
colorTo: pink
sdk: gradio
sdk_version: 5.0
python_version: 3.10
app_file: src/app.py
app_port: 7861
base_path: /start
fullWidth: no
header: mini
short_description: "A: B"
pinned: true
tags:
  - one
  - 2
models: [a/b]
license: mit
hf_oauth: true
hf_oauth_scopes: [email]
hf_oauth_expiration_minutes: 480
hf_oauth_authorized_org: org
disable_embedding: false
startup_duration_timeout: 1h30m
custom_headers:
  cross-origin-opener-policy: same-origin
preload_from_hub:
  - a/b file1,file2 0123abc
---
# Title
"""
    )
    assert read.text("python_version") == "3.10"
    assert read.text("sdk_version") == "5.0"
    assert read.data["tags"] == ["one", "2"]
    assert read.data["fullWidth"] is False
    assert read.data["app_port"] == 7861
    assert read.start_timeout_s == 5400
    assert read.lines["python_version"] == 8


def test_unknown_keys_never_fail_and_stay_plain() -> None:
    read = card("---\nnew_key: {a: [1, 2.5, yes, true, 2020-01-01, ~]}\n.x: .nan\n---\n")
    assert read.data["new_key"] == {"a": [1, 2.5, "yes", True, "2020-01-01", None]}
    assert read.data[".x"] == ".nan"


@pytest.mark.parametrize(
    "text", ["", "# Just a text\n", "---\n", "---\n\nA ruler, then text\n", "text\n---\nsdk: x\n---\n"]
)
def test_no_front_matter_is_fine(text: str) -> None:
    assert card(text) == Card()


@pytest.mark.parametrize("text", ["---\n---\n", "---\n# nothing\n---\n", "---\n~\n---"])
def test_empty_front_matter_is_fine(text: str) -> None:
    assert card(text) == Card(present=True)


def test_windows_line_ends_byte_order_mark_and_blank_lines_before() -> None:
    assert card(b"\xef\xbb\xbf\r\n---\r\ntitle: x\r\nsdk: static\r\n---\r\n").lines == {"title": 3, "sdk": 4}


def test_empty_values_count_as_absent() -> None:
    assert card("---\nsdk:\napp_file:\n---\n").text("sdk") is None


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("sdk: gradioo", "perhaps `gradio`"),
        ("sdk: [gradio]", "one line"),
        ("sdk_version: newest", "exact version"),
        ("python_version: 2.7", "3.x"),
        ("python_version: '3.11; rm'", "3.x"),
        ("app_file: ../app.py", "without `..`"),
        ("app_file: /etc/passwd", "inside the repository"),
        ("app_port: 0", "from 1 to 65535"),
        ("app_port: web", "whole number"),
        ("colorFrom: teal", "one of red"),
        ("emoji: mouse", "one emoji"),
        ("fullWidth: maybe", "true or false"),
        ("header: tiny", "default, mini"),
        ("tags: one", "`- `"),
        ("tags: [[a]]", "one line"),
        ("base_path: start", "begin with one `/`"),
        ("startup_duration_timeout: soon", "30m"),
        ("hf_oauth_expiration_minutes: 99999", "43200"),
        ("custom_headers: {x-frame-options: deny}", "may only set"),
        ("custom_headers: {cross-origin-opener-policy: Same-Origin}", "lower-case"),
        ("preload_from_hub: [a b c d]", "repo file1,file2"),
    ],
)
def test_wrong_values_say_what_to_write(line: str, word: str) -> None:
    (found,) = findings(f"---\ntitle: x\n{line}\n---\n")
    assert (found.file, found.line) == ("README.md", 3)
    assert word in found.message
    assert found.message.startswith(f"`{line.partition(':')[0]}` ")


def test_all_mistakes_are_reported_together() -> None:
    assert [found.line for found in findings("---\nsdk: x\ntitle: [a]\napp_port: no\n---\n")] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ("---\na: &x [1]\nb: *x\n---\n", 2, "yaml-alias"),
        ("---\na: !!python/object/apply:os.system [id]\n---\n", 2, "yaml-tag"),
        ("---\na: " + "[" * 40 + "]" * 40 + "\n---\n", 2, "yaml-depth"),
        ("---\n" + "- 1\n" * 6000 + "---\n", 5001, "yaml-size"),
        ("---\ntitle: a\nsdk: b\ntitle: c\n---\n", 4, "duplicate-key"),
        ("---\ntitle: a: b\n---\n", 2, "bad-yaml"),
        ("---\n\ttitle: a\n---\n", 2, "bad-yaml"),
        ("---\ntitle: 'a\n---\n", 3, "bad-yaml"),
        ("---\nkey: \x01\n---\n", 2, "bad-yaml"),
        ('---\nok: 1\nkey: "\\ud800"\n---\n', 3, "bad-yaml"),
        ("---\n[a]: b\n---\n", 2, "yaml-key"),
        ("---\n- a\n---\n", 2, "front-matter-shape"),
        ("---\ntitle: x\nno end\n", 1, "front-matter-open"),
        (b"---\ntitle: x\nsdk: \xff\n---\n", 3, "front-matter-encoding"),
        (b"---\n" + b"a" * (65 << 10) + b"\n---\n", 1, "front-matter-size"),
        (b"\x89PNG\r\n\x1a\n\0\0", 3, "readme-binary"),
        ("---\ntitle: x\n---\n".encode("utf-16"), 1, "readme-binary"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str | bytes, line: int, code: str) -> None:
    (found,) = findings(text)
    assert (found.line, found.code) == (line, code)
    assert found.message.endswith(".")


def test_a_refusal_carries_every_finding_and_its_summary_counts_them() -> None:
    refusal = Refusal.of(findings("---\nsdk: x\ntitle: [a]\napp_port: no\n---\n"))
    assert (refusal.line, [found.line for found in refusal.more]) == (2, [3, 4])
    assert refusal.summary == f"{refusal.message} (and 2 more)"
    assert str(refusal.more[0]).startswith("README.md:3: `title` must be")
    assert Refusal.of(findings("---\nsdk: x\n---\n")).summary.endswith("asgi, docker, not `x`.")


def test_keys_that_nothing_reads_are_named_with_the_one_that_was_meant() -> None:
    text = "---\ntitle: x\nsdk_versoin: 5.0.0\nxyzzy: 1\ncolorform: red\n---\n"
    said = card(text).unknown_keys()
    assert said.startswith("README.md:3: nothing reads `sdk_versoin` (perhaps `sdk_version`), `xyzzy`, `colorform` (")
    assert card("---\ntitle: x\nmodels: [a/b]\nsuggested_hardware: t4-small\n---\n").unknown_keys() == ""
    assert card("no front matter").unknown_keys() == ""


def test_a_bomb_of_aliases_costs_nothing() -> None:
    bomb = (
        "---\na: &a [x,x,x]\n"
        + "".join(f"{k}: &{k} [*{p},*{p},*{p}]\n" for p, k in zip("abcdefgh", "bcdefghi", strict=True))
        + "---\n"
    )
    started = time.perf_counter()
    assert findings(bomb)[0].code == "yaml-alias"
    assert time.perf_counter() - started < 0.5


@given(st.binary(max_size=400).map(lambda raw: b"---\n" + raw + b"\n---\n"))
@settings(max_examples=150, deadline=None)
def test_any_bytes_have_an_answer(raw: bytes) -> None:
    read = read_card(raw)
    assert isinstance(read, Card) or all(found.line >= 1 and found.message for found in read)
