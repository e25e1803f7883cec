"""Texts from outside: log lines, titles, emoji, times."""

import pytest

from orchestrator.web.ui import text


@pytest.mark.parametrize(("line", "shown"), [
    ("\x1b[32m + gradio\x1b[0m\n", " + gradio"),
    ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("10 %\r50 %\r100 %\n", "100 %"),
    ("a\x07b\x00c\x7f", "abc"),
    ("\x1b[2K\x1b[1;31mred\x1b[m", "red"),
    ("\u009b31mred", "31mred"),
    ("plain\ttab", "plain\ttab"),
])  # fmt: skip
def test_log_line_is_what_a_terminal_leaves(line: str, shown: str) -> None:
    assert text.log_line(line) == shown


def test_long_lines_are_cut() -> None:
    assert len(text.log_line("x" * 1_000_000)) < 4100
    assert len(text.tidy("x" * 1_000_000, 50)) == 50


@pytest.mark.parametrize(("emoji", "shown"), [
    ("🐭", "🐭"), ("🏳️‍🌈", "🏳️‍🌈"), ("👩🏽‍🚀", "👩🏽‍🚀"), ("🇫🇮", "🇫🇮"), ("♟️", "♟️"),
    ("<b>", "W"), ("ab", "W"), ("🐭" * 20, "W"), (7, "W"), (None, "W"), ("", "W"), ("\u202e", "W"),
])  # fmt: skip
def test_emoji_is_an_emoji_or_the_first_letter(emoji: object, shown: str) -> None:
    assert text.emoji({"emoji": emoji}, "whisper") == shown


def test_gradient_takes_known_colours_only_and_is_steady() -> None:
    assert text.gradient({"colorFrom": "red", "colorTo": "blue"}, "a/b") == ("red", "blue")
    assert text.gradient({"colorFrom": "red;}", "colorTo": ["blue"]}, "a/b") == text.gradient({}, "a/b")
    assert set(text.gradient({}, "a/b")) <= set(text.COLOURS)


@pytest.mark.parametrize(("seconds", "shown"), [
    (0.04, "0.0 s"), (3.14, "3.1 s"), (59.7, "60 s"), (61, "1 min 1 s"), (3600, "1 h"), (5400, "1 h 30 min"),
    (172800, "2 days"), (-5, "0.0 s"),
])  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(("before", "shown"), [
    (0, "just now"), (-100, "just now"), (42, "42 s ago"), (600, "10 min ago"), (7200, "2 h ago"),
    (10 * 86400, "10 days ago"), (400 * 86400, "04 Sep 2024"),
])  # fmt: skip
def test_moments(before: float, shown: str) -> None:
    moment = text.moment(1_760_000_000 - before, 1_760_000_000)
    assert moment.relative == shown
    assert moment.iso.endswith("Z")


def test_impossible_times_do_not_break_a_page() -> None:
    for at in (float("nan"), float("inf"), -1e300, 1e300):
        assert text.moment(at, 0.0).iso == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (5 << 30, "5.0 GB")])
def test_sizes(count: int, shown: str) -> None:
    assert text.size(count) == shown
