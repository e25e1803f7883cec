"""YAML as front matter needs it: mappings, lists and scalars with their line numbers, and nothing else.

The parser's events are turned into values here, without its composer and constructors. That way a document that would
grow when read cannot: aliases and tags are refused where they stand, depth and number of nodes are bounded, and no
value is ever made by a tag. Scalars keep their source text, since `python_version: 3.10` must not become 3.1.

Scalars are read as YAML 1.2 does (and as the Hub does): only `true` and `false` are booleans, dates stay text.
"""

import math
import re
from dataclasses import dataclass

import yaml

DEPTH_MAX = 16
NODES_MAX = 5000

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What JSON can say."""


class YamlProblem(Exception):
    """The text is not the kind of YAML that is read here. `line` counts from 1 within the text."""

    def __init__(self, line: int, code: str, message: str) -> None:
        super().__init__(message)
        self.line, self.code = line, code


@dataclass(frozen=True)
class Scalar:
    line: int
    text: str
    quoted: bool

    def value(self) -> Plain:
        return self.text if self.quoted else _resolve(self.text)


@dataclass(frozen=True)
class Sequence:
    line: int
    items: "tuple[Node, ...]"


@dataclass(frozen=True)
class Mapping:
    line: int
    items: "tuple[tuple[Scalar, Node], ...]"


Node = Scalar | Sequence | Mapping

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\Z")
_NUMBER = re.compile(r"[-+]?([0-9]{1,20}\.[0-9]{0,20}|\.[0-9]{1,20}|[0-9]{1,20})([eE][-+]?[0-9]{1,3})?\Z")


def _resolve(text: str) -> Plain:
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _INTEGER.match(text):
        return int(text)
    if _NUMBER.match(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def plain(node: Node) -> Plain:
    """The node as JSON values. Depth is bounded by `parse`, so the recursion is too."""
    if isinstance(node, Scalar):
        return node.value()
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key.text: plain(item) for key, item in node.items}


def parse(text: str) -> Node | None:
    """The one document in `text`; None if it is empty. Raises YamlProblem."""
    try:
        return _Reader(yaml.SafeLoader(text)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlProblem(mark.line + 1 if mark else 1, "bad-yaml", _advice(error)) from error
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        message = "This line holds a character that YAML does not allow; delete it."
        raise YamlProblem(text.count("\n", 0, position) + 1, "bad-yaml", message) from error


_ADVICE = {
    "mapping values are not allowed": "Put a value that contains `: ` in quotes.",
    "\\t": "Indent with spaces, not with tabs.",
    "unexpected end of stream": "Close the quote or bracket that was opened.",
    "could not find expected ':'": "Write `key: value`, with a space after the colon.",
}


def _advice(error: yaml.MarkedYAMLError) -> str:
    said = ": ".join(part for part in (error.context, error.problem) if part)
    advice = next((text for sign, text in _ADVICE.items() if sign in said), "Write `key: value` lines.")
    return f"This is not valid YAML ({said}). {advice}"


class _Reader:
    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._nodes = 0

    def document(self) -> Node | None:
        self._next()  # stream start
        if isinstance(self._peek(), yaml.StreamEndEvent):
            return None
        self._next()  # document start
        node = self._node(self._next(), depth=0)
        self._next()  # document end
        after = self._peek()
        if not isinstance(after, yaml.StreamEndEvent):
            raise YamlProblem(_line(after), "bad-yaml", "A second YAML document begins here; keep one.")
        return node

    def _peek(self) -> yaml.Event:
        return self._loader.peek_event()  # type: ignore[no-any-return, no-untyped-call]

    def _next(self) -> yaml.Event:
        return self._loader.get_event()  # type: ignore[no-any-return, no-untyped-call]

    def _node(self, event: yaml.Event, depth: int) -> Node:
        self._refuse(event, depth)
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(_line(event), depth + 1)
        return self._mapping(_line(event), depth + 1)

    def _refuse(self, event: yaml.Event, depth: int) -> None:
        line = _line(event)
        self._nodes += 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlProblem(line, "yaml-alias", "Anchors and aliases (& and *) are not read; write the value out.")
        if getattr(event, "tag", None):
            raise YamlProblem(line, "yaml-tag", "YAML tags (!) are not read; write the plain value.")
        if depth > DEPTH_MAX:
            raise YamlProblem(line, "yaml-depth", f"Values are nested more than {DEPTH_MAX} deep here; flatten them.")
        if self._nodes > NODES_MAX:
            raise YamlProblem(line, "yaml-size", f"There are more than {NODES_MAX} values; keep it short.")

    def _sequence(self, line: int, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth))
        return Sequence(line, tuple(items))

    def _mapping(self, line: int, depth: int) -> Mapping:
        items: list[tuple[Scalar, Node]] = []
        seen: dict[str, int] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._node(event, depth)
            if not isinstance(key, Scalar):
                raise YamlProblem(key.line, "yaml-key", "A key must be a word; lists and mappings cannot be keys.")
            if key.text in seen:
                message = f"`{key.text[:60]}` is given twice (first on line {seen[key.text]}); delete one of them."
                raise YamlProblem(key.line, "duplicate-key", message)
            seen[key.text] = key.line
            items.append((key, self._node(self._next(), depth)))
        return Mapping(line, tuple(items))


def _scalar(event: yaml.ScalarEvent) -> Scalar:
    if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in event.value):
        # Escapes in double quotes can write what neither UTF-8 nor a database column can hold.
        raise YamlProblem(_line(event), "bad-yaml", "This text holds an escape that is no character; delete it.")
    return Scalar(_line(event), event.value, quoted=event.style is not None)


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1 if event.start_mark else 1
