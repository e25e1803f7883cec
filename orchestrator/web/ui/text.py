"""Text from outside, made fit for a page: log lines, titles, sizes and times in words.

Jinja escapes every value, so nothing here is about HTML. It is about what escaping does not cure: escape sequences of
terminals, characters that turn the direction of a whole line round, values of a wrong type in front matter, and texts
without an end. Must never do I/O or ask for the time: `now` is given.
"""

import re
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
"""Colours that front matter may name; the style sheet has a class for each."""
_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands: titles, links
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # strings
    r"|\x1b[ -/]*[0-~]"  # two-character sequences
    r"|[\x80-\x9f]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# Marks that change the direction of the text around them: a title could otherwise rewrite the words beside it.
_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BACKTICKS = re.compile(r"`([^`\n]+)`")
_EMOJI_JOINERS = frozenset((0x200D, 0xFE0F, 0x20E3))


@dataclass(frozen=True)
class Moment:
    """A time as pages show it: in words, with the exact time behind it."""

    epoch: int
    iso: str
    absolute: str
    relative: str


def moment(at: float, now: float) -> Moment:
    """`at` in words as seen from `now`."""
    try:
        when = datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        when = datetime.fromtimestamp(0, UTC)
    absolute = f"{when:%Y-%m-%d %H:%M:%S} UTC"
    return Moment(int(when.timestamp()), f"{when:%Y-%m-%dT%H:%M:%SZ}", absolute, _ago(now - at, when))


def maybe_moment(at: float | None, now: float) -> Moment | None:
    """Like `moment`; None where there is no time (None, or the 0 of a thing that never happened)."""
    return moment(at, now) if at else None


def _ago(seconds: float, when: datetime) -> str:
    if seconds < 5:
        return "just now"
    if seconds < 60:
        return f"{int(seconds)} s ago"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 48 * 3600:
        return f"{int(seconds // 3600)} h ago"
    if seconds < 30 * 86400:
        return f"{int(seconds // 86400)} days ago"
    return f"{when:%d %b %Y}"


def duration(seconds: float) -> str:
    """A length of time: `0.4 s`, `12 s`, `3 min 5 s`, `2 h`."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def size(count: int) -> str:
    """A number of bytes in words."""
    amount, unit = float(count), "B"
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1024 or unit == "GB":
            break
        amount /= 1024
    return f"{int(amount)} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def tidy(value: object, limit: int = 200) -> str:
    """One line of plain text: no control characters, no change of direction, cut at `limit`."""
    if not isinstance(value, str | int | float):
        return ""
    text = _DIRECTION.sub("", _CONTROL.sub(" ", str(value)[: limit * 4])).replace("\n", " ").strip()
    text = text.replace("\t", " ")
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def spans(message: str) -> list[str]:
    """Plain text and what stands between backticks by turns: every second part is code."""
    return _BACKTICKS.split(message)


def log_line(text: str, limit: int = 4000) -> str:
    """A log line as a terminal would leave it, without its colours."""
    text = _ANSI.sub("", text[: limit * 2]).rstrip("\r\n")
    # A progress bar overwrites its line again and again: what it wrote last is what counts.
    text = _CONTROL.sub("", text.rpartition("\r")[2])
    return text if len(text) <= limit else text[:limit] + " … (line cut)"


def emoji(card: Mapping[str, Any], fallback: str) -> str:
    """The card's emoji, if it is one; otherwise the first letter of `fallback`."""
    text = card.get("emoji")
    if isinstance(text, str) and 0 < len(text) <= 12 and all(_belongs_to_emoji(char) for char in text):
        return text
    letters = [char for char in fallback if char.isalnum()]
    return letters[0].upper() if letters else "•"


def _belongs_to_emoji(char: str) -> bool:
    code = ord(char)
    if code in _EMOJI_JOINERS or 0x1F3FB <= code <= 0x1F3FF or 0xE0020 <= code <= 0xE007F:
        return True
    return code > 0xA8 and unicodedata.category(char) in ("So", "Sm", "Sk", "Po")


def gradient(card: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Two colour names for the card's background; made from `name` where the front matter says nothing usable."""
    seed = zlib.crc32(name.encode())
    first, second = card.get("colorFrom"), card.get("colorTo")
    start = first if first in COLOURS else COLOURS[seed % 7]
    end = second if second in COLOURS else COLOURS[(seed // 7 + 3) % 7]
    return str(start), str(end)
