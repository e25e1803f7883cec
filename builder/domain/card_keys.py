"""Every key of the Hub's README front matter and what it may hold.

One row per key: a reader that turns the YAML node into a value, or raises Wrong with the second half of the sentence
"`key` ...". Keys that are not in the table are kept as they are and never fail, so that a Space made for a newer Hub
still works here.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

from packaging.version import InvalidVersion, Version

from builder.domain.problems import quoted
from builder.domain.yaml_subset import Mapping as MappingNode
from builder.domain.yaml_subset import Node, Plain, Scalar, Sequence, plain

SDKS = ("gradio", "streamlit", "static", "asgi", "docker")
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
HEADERS = ("cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy")
TEXT_MAX = 2000
ITEMS_MAX = 500

_DURATION = re.compile(r"(?:(?P<d>\d{1,3})d)?(?:(?P<h>\d{1,4})h)?(?:(?P<m>\d{1,5})m)?(?:(?P<s>\d{1,6})s)?\Z")
_PYTHON = re.compile(r"3\.\d{1,2}(\.\d{1,2})?\Z")


class Wrong(Exception):
    """The value cannot be used; `str()` continues the sentence "`key` ..." and says what to write instead."""


Reader = Callable[[Node], Plain]


def read(key: str, node: Node) -> Plain:
    """The value of `key`. Raises Wrong if it is a key of the table and the value is not what it may hold."""
    reader = KEYS.get(key)
    if reader is None or _is_empty(node):
        return plain(node)
    return reader(node)


def close_to(word: str, choices: Iterable[str]) -> str:
    """A half sentence that names the close choice, or nothing."""
    near = difflib.get_close_matches(word.lower(), choices, n=1, cutoff=0.6)
    return f" (perhaps `{near[0]}`)" if near else ""


def seconds(text: str) -> int | None:
    """`30m`, `1h`, `1h30m` in seconds; None if the text is no duration."""
    match = _DURATION.match(text.strip().lower())
    if not match or not text.strip():
        return None
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(int(match[unit] or 0) * size for unit, size in units.items())


def _is_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value() is None


def _text(node: Node) -> str:
    if not isinstance(node, Scalar):
        raise Wrong("must be a text on one line")
    if len(node.text) > TEXT_MAX:
        raise Wrong(f"is longer than {TEXT_MAX} characters; shorten it")
    return node.text.strip()


def _boolean(node: Node) -> Plain:
    text = _text(node).lower()
    if text in ("true", "yes", "on"):
        return True
    if text in ("false", "no", "off"):
        return False
    raise Wrong(f"must be true or false, not {quoted(text)}")


def _whole(low: int, high: int) -> Reader:
    def reader(node: Node) -> Plain:
        text = _text(node)
        if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            raise Wrong(f"must be a whole number from {low} to {high}, not {quoted(text)}")
        return int(text)

    return reader


def _one_of(*choices: str) -> Reader:
    def reader(node: Node) -> Plain:
        text = _text(node)
        if text not in choices:
            raise Wrong(f"must be one of {', '.join(choices)}, not {quoted(text)}{close_to(text, choices)}")
        return text

    return reader


def _texts(node: Node) -> Plain:
    if not isinstance(node, Sequence):
        raise Wrong("must be a list; write each entry on a line of its own that begins with `- `")
    if len(node.items) > ITEMS_MAX:
        raise Wrong(f"has more than {ITEMS_MAX} entries")
    return [_text(item) for item in node.items]


def _text_or_texts(node: Node) -> Plain:
    return _text(node) if isinstance(node, Scalar) else _texts(node)


def _emoji(node: Node) -> Plain:
    text = _text(node)
    if len(text) > 16 or not any(ord(c) >= 0xA9 for c in text):
        raise Wrong(f"must be one emoji, for instance 🐭, not {quoted(text)}")
    return text


def _path(node: Node) -> Plain:
    text = _text(node)
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise Wrong(f"must be a path inside the repository, without `..`, not {quoted(text)}")
    return str(path)


def _base_path(node: Node) -> Plain:
    text = _text(node)
    if not text.startswith("/") or text.startswith("//"):
        raise Wrong(f"must begin with one `/`, not {quoted(text)}")
    return text


def _package_version(node: Node) -> Plain:
    text = _text(node)
    try:
        Version(text)
    except InvalidVersion:
        raise Wrong(f"must be an exact version, for instance 5.49.1, not {quoted(text)}") from None
    return text


def _python_version(node: Node) -> Plain:
    text = _text(node)
    if not _PYTHON.match(text):
        raise Wrong(f'must be "3.x" or "3.x.y", for instance "3.11", not {quoted(text)}')
    return text


def _duration(node: Node) -> Plain:
    text = _text(node)
    if not seconds(text):
        raise Wrong(f"must be a duration such as 30m or 1h, not {quoted(text)}")
    return text


def _custom_headers(node: Node) -> Plain:
    if not isinstance(node, MappingNode):
        raise Wrong("must be a mapping; write `cross-origin-opener-policy: same-origin` indented below it")
    for key, item in node.items:
        if key.text not in HEADERS:
            raise Wrong(f"may only set {', '.join(HEADERS)} (lower case), not {quoted(key.text)}")
        if _text(item) != _text(item).lower():
            raise Wrong(f"must have lower-case values; {quoted(key.text)} has not")
    return plain(node)


def _preload(node: Node) -> Plain:
    items = _texts(node)
    for item in items if isinstance(items, list) else ():
        if not 1 <= len(str(item).split()) <= 3:
            raise Wrong(f"entries are `repo`, `repo file1,file2` or `repo file1,file2 commit`, not {quoted(item)}")
    return items


KEYS: Mapping[str, Reader] = {
    "title": _text,
    "emoji": _emoji,
    "colorFrom": _one_of(*COLORS),
    "colorTo": _one_of(*COLORS),
    "sdk": _one_of(*SDKS),
    "sdk_version": _package_version,
    "python_version": _python_version,
    "app_file": _path,
    "app_build_command": _text,
    "app_port": _whole(1, 65535),
    "base_path": _base_path,
    "fullWidth": _boolean,
    "header": _one_of("default", "mini"),
    "short_description": _text,
    "thumbnail": _text,
    "pinned": _boolean,
    "tags": _texts,
    "models": _texts,
    "datasets": _texts,
    "license": _text_or_texts,
    "suggested_hardware": _text,
    "suggested_storage": _text,
    "hf_oauth": _boolean,
    "hf_oauth_scopes": _texts,
    "hf_oauth_expiration_minutes": _whole(1, 43200),
    "hf_oauth_authorized_org": _text_or_texts,
    "disable_embedding": _boolean,
    "startup_duration_timeout": _duration,
    "custom_headers": _custom_headers,
    "preload_from_hub": _preload,
    "dev-mode-folder": _text,
}
