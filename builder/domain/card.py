"""Reads the front matter of README.md: the only configuration that a Space has.

The input is whatever somebody pushed. It is cut before it is read, read by a parser that knows neither aliases nor
tags (see `yaml_subset`), and each mistake becomes a finding with its line and what to write instead. All mistakes of
known keys are reported together; a README without front matter is fine, since the files speak for themselves.

This module must never do I/O or log what it reads: the orchestrator calls it while a push waits.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from builder.domain import card_keys, yaml_subset
from builder.domain.problems import README, Finding, quoted
from builder.domain.yaml_subset import Plain

README_BYTES_MAX = 1 << 20
FRONT_MATTER_BYTES_MAX = 64 << 10
FINDINGS_MAX = 20

_FENCE = re.compile(rb"^---[ \t]*\r?$", re.MULTILINE)
_KEY_LINE = re.compile(rb"\s*[A-Za-z_][\w-]*[ \t]*:")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Front matter that can be used. `data` is plain JSON; `lines` says where each key stands."""

    data: Mapping[str, Plain] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    present: bool = False

    def text(self, key: str) -> str | None:
        """The value of a text key; None if it is absent or empty."""
        value = self.data.get(key)
        return value if isinstance(value, str) and value else None

    def unknown_keys(self) -> str:
        """A sentence that names the keys that nothing reads, most often misspelled ones; empty where there are none."""
        unknown = [key for key in self.data if key not in card_keys.KEYS]
        if not unknown:
            return ""
        named = [f"{quoted(key)}{card_keys.close_to(key, card_keys.KEYS)}" for key in unknown[:FINDINGS_MAX]]
        where = f"{README}:{self.lines[unknown[0]]}"
        return f"{where}: nothing reads {', '.join(named)}; correct the spelling or leave it."

    def flag(self, key: str) -> bool:
        return self.data.get(key) is True

    @property
    def start_timeout_s(self) -> float | None:
        """`startup_duration_timeout` in seconds."""
        text = self.text("startup_duration_timeout")
        return float(card_keys.seconds(text) or 0) or None if text else None


def read_card(raw: bytes) -> Card | list[Finding]:
    """The card of a README, or everything that is wrong with its front matter."""
    raw = raw[:README_BYTES_MAX].removeprefix(b"\xef\xbb\xbf")
    block = _front_matter(raw)
    if block is None:
        return _junk(raw) or Card()
    start_line, body = block
    if isinstance(body, Finding):
        return [body]
    return _read_block(start_line, body)


def _front_matter(raw: bytes) -> tuple[int, bytes | Finding] | None:
    """(number of the line before the block, the block), or None where there is no front matter."""
    stripped = raw.lstrip()
    skipped = raw[: len(raw) - len(stripped)]
    opening = _FENCE.match(stripped)
    if not opening:
        return None
    line = skipped.count(b"\n") + 1
    rest = stripped[opening.end() :]
    closing = _FENCE.search(rest)
    if closing is None:
        return _never_closed(line, rest)
    body = rest[: closing.start()]
    if len(body) > FRONT_MATTER_BYTES_MAX:
        message = f"The front matter is larger than {FRONT_MATTER_BYTES_MAX >> 10} KiB; keep only the keys in it."
        return line, Finding(README, line, "front-matter-size", message)
    return line, body


def _never_closed(line: int, rest: bytes) -> tuple[int, Finding] | None:
    """An opening `---` alone: front matter without an end if a key follows, else just a ruler of the text."""
    if not _KEY_LINE.match(rest):
        return None
    message = "The front matter that begins here never ends; add a line with `---` after its last key."
    return line, Finding(README, line, "front-matter-open", message)


def _junk(raw: bytes) -> list[Finding]:
    at = raw.find(b"\0")
    if at < 0:
        return []
    message = "README.md is not a text file; save it as UTF-8 text, or delete it."
    return [Finding(README, raw.count(b"\n", 0, at) + 1, "readme-binary", message)]


def _read_block(start_line: int, body: bytes) -> Card | list[Finding]:
    try:
        text = body.decode("utf-8").replace("\r\n", "\n")
        node = yaml_subset.parse(text)
    except UnicodeDecodeError as error:
        # `body` begins with the line end of the opening fence, so its first line is the fence's own.
        line = start_line + body.count(b"\n", 0, error.start)
        return [Finding(README, line, "front-matter-encoding", "This line is not UTF-8; save the file as UTF-8.")]
    except yaml_subset.YamlProblem as problem:
        return [Finding(README, start_line + problem.line - 1, problem.code, str(problem))]
    if node is None or (isinstance(node, yaml_subset.Scalar) and node.value() is None):
        return Card(present=True)
    if not isinstance(node, yaml_subset.Mapping):
        message = "The front matter must be `key: value` lines, for instance `sdk: gradio`."
        return [Finding(README, start_line + 1, "front-matter-shape", message)]
    return _check(start_line - 1, node)


def _check(offset: int, mapping: yaml_subset.Mapping) -> Card | list[Finding]:
    data: dict[str, Plain] = {}
    lines: dict[str, int] = {}
    findings: list[Finding] = []
    for key, node in mapping.items:
        lines[key.text] = key.line + offset
        try:
            data[key.text] = card_keys.read(key.text, node)
        except card_keys.Wrong as wrong:
            code = f"bad-{key.text.replace('_', '-')}"
            findings.append(Finding(README, key.line + offset, code, f"`{key.text}` {wrong}."))
    return findings[:FINDINGS_MAX] or Card(data=data, lines=lines, present=True)
