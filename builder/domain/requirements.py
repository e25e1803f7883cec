"""Reads requirement files line by line, as pip does, and refuses what cannot be honoured with file and line.

What is read is hostile text that ends up as input of the resolver, so nothing is passed through unread: every line is
a requirement that `packaging` understands, a URL of a kind that is known, or one of the options named here.
`-r` and `-c` may name further files of the repository, to a bounded depth.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from builder.domain.problems import CONFIG_ERROR, Refusal, quoted
from builder.domain.tree import Listing, ReadFile

FILE_BYTES_MAX = 512 << 10
LINES_MAX = 5000
FILES_MAX = 16
DEPTH_MAX = 4

_HASH = re.compile(r"\s--hash[= ](sha(?:256|384|512):[0-9a-f]{64,128})(?=\s|$)")
_LINE_OPTION = re.compile(r"\s--(?:config-settings?|global-option|install-option)\b")
_VCS = re.compile(r"(git)\+(https)://", re.IGNORECASE)
_OTHER_VCS = re.compile(r"(git|hg|svn|bzr)\+", re.IGNORECASE)
_ARCHIVE = re.compile(r"https://\S+", re.IGNORECASE)
_LOCAL = re.compile(r"(\.{0,2}/|\.\Z|~|file:|[A-Za-z]:\\)|.*\.(whl|zip|tar\.gz|tar\.bz2|tgz)\Z", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One requirement and where it stands."""

    text: str
    """What the resolver gets: PEP 508, or a bare URL."""
    file: str
    number: int
    name: str = ""
    """Canonical name; empty for a bare URL."""
    parsed: Requirement | None = None
    hashes: frozenset[str] = frozenset()

    @property
    def foreign(self) -> bool:
        """It names an address of the author's choosing."""
        return self.parsed is None or self.parsed.url is not None


@dataclass(frozen=True, kw_only=True)
class Requirements:
    lines: tuple[Line, ...] = ()
    constraints: tuple[Line, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    """(option of the resolver, https address) pairs: further indexes."""
    prereleases: bool = False
    warnings: tuple[str, ...] = ()


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def read_requirements(files: Listing, read: ReadFile, paths: tuple[str, ...]) -> Requirements | Refusal:
    """Everything that these files of the repository ask for."""
    reader = _Reader(files, read)
    try:
        for path in paths:
            reader.file(path, constraint=False, depth=0, by=None)
    except Refused as refused:
        return refused.refusal
    return reader.done()


@dataclass
class _Reader:
    files: Listing
    read: ReadFile
    lines: list[Line] = field(default_factory=list)
    constraints: list[Line] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    prereleases: bool = False
    seen: set[str] = field(default_factory=set)

    def done(self) -> Requirements:
        return Requirements(
            lines=tuple(self.lines),
            constraints=tuple(self.constraints),
            places=tuple(dict.fromkeys(self.places)),
            prereleases=self.prereleases,
            warnings=tuple(dict.fromkeys(self.warnings)),
        )

    def file(self, path: str, *, constraint: bool, depth: int, by: tuple[str, int] | None) -> None:
        entry = self.files.get(path)
        where = by or (path, 1)
        if entry is None or not entry.regular:
            kind = "is not in the repository" if entry is None else f"is a {entry.kind.value}"
            raise _refused(where, f"{quoted(path)} {kind}; add it as a regular file, or delete the line.")
        if depth > DEPTH_MAX or len(self.seen) >= FILES_MAX:
            raise _refused(where, "Requirement files include each other too deeply; put the lines into one file.")
        if path in self.seen:
            return
        self.seen.add(path)
        for number, text in _logical_lines(path, self.read(path)):
            self._line(path, number, text, constraint=constraint, depth=depth)

    def _line(self, path: str, number: int, text: str, *, constraint: bool, depth: int) -> None:
        where = (path, number)
        if text.startswith("-"):
            self._option(where, text, depth)
            return
        line = _requirement(where, text)
        (self.constraints if constraint else self.lines).append(line)

    def _option(self, where: tuple[str, int], text: str, depth: int) -> None:
        name, value = _split_option(text)
        if name in ("-r", "--requirement", "-c", "--constraint"):
            path = _relative(where, value)
            self.file(path, constraint=name in ("-c", "--constraint"), depth=depth + 1, by=where)
        elif name in _PLACES:
            self.places.append((_PLACES[name], _https(where, name, value)))
        elif name == "--pre":
            self.prereleases = True
        elif name in ("-e", "--editable"):
            raise _refused(where, _EDITABLE if not _OTHER_VCS.match(value) else _EDITABLE_URL.format(url=value[:200]))
        elif name in _IGNORED:
            self.warnings.append(f"{where[0]}:{where[1]}: {name} is not needed here and was ignored.")
        else:
            raise _refused(where, f"The option {quoted(name)} is not known here; delete the line.")


_PLACES = {
    "-i": "--default-index",
    "--index-url": "--default-index",
    "--extra-index-url": "--index",
    "-f": "--find-links",
    "--find-links": "--find-links",
}
_IGNORED = frozenset(
    (
        *("--prefer-binary", "--only-binary", "--no-binary", "--trusted-host", "--no-cache-dir", "--use-feature"),
        *("--upgrade", "-U", "--use-pep517", "--no-build-isolation", "--require-hashes", "--progress-bar", "--no-deps"),
    )
)
_EDITABLE = (
    "Folders of the repository cannot be installed as packages. Delete the line: code beside the app file can be "
    "imported without being installed."
)
_IS_PATH = "is a path; packages are installed by name or https address. Delete or replace the line."
_EDITABLE_URL = "Packages cannot be installed in editable form; write {url} without `-e`."


def _refused(where: tuple[str, int], message: str, code: str = "bad-requirement") -> Refused:
    return Refused(Refusal(stage=CONFIG_ERROR, code=code, message=message, file=where[0], line=where[1]))


def _logical_lines(path: str, raw: bytes) -> Iterator[tuple[int, str]]:
    """(number of its first line, text without comment) of each line, with `\\` continuations joined."""
    if len(raw) > FILE_BYTES_MAX or raw.count(b"\n") > LINES_MAX:
        raise _refused(
            (path, 1), f"The file has more than {LINES_MAX} lines or {FILE_BYTES_MAX >> 10} KiB; shorten it."
        )
    text = _decoded(path, raw)
    started, joined = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        started = started if joined else number
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        whole = re.sub(r"(^|\s)#.*$", "", joined + line).strip()
        joined = ""
        if whole:
            yield started, whole


def _decoded(path: str, raw: bytes) -> str:
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _refused((path, line), "This line is not UTF-8 text; save the file as UTF-8.") from None
    if "\0" in text:
        raise _refused((path, 1), "This is not a text file; write one requirement per line.")
    return text


def _split_option(text: str) -> tuple[str, str]:
    match = re.match(r"(--[a-zA-Z0-9-]+|-[a-zA-Z])[=\s]*(.*)\Z", text)
    return (match[1], match[2].strip()) if match else (text[:40], "")


def _relative(where: tuple[str, int], value: str) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(where[0]), value))
    if not value or path.startswith(("../", "/")) or path == ".." or "://" in value:
        raise _refused(where, f"{quoted(value)} is outside the repository; only its own files can be included.")
    return path


def _https(where: tuple[str, int], name: str, value: str) -> str:
    parts = urlsplit(value) if len(value) < 2000 and value.isprintable() and not re.search(r"\s", value) else None
    if parts is None or parts.scheme != "https" or not parts.hostname:
        raise _refused(where, f"{name} must be an https address, not {quoted(value)}.")
    return value


def _requirement(where: tuple[str, int], text: str) -> Line:
    hashes = frozenset(_HASH.findall(text))
    text = _HASH.sub("", text).strip()
    if _LINE_OPTION.search(text):
        raise _refused(where, "Build options of single requirements are not supported; delete them.")
    if "${" in text:
        raise _refused(where, "Variables are not replaced in requirement files; write the value out.")
    base = Line(text=text, file=where[0], number=where[1], hashes=hashes)
    if _OTHER_VCS.match(text) or _ARCHIVE.match(text):
        return replace(base, text=_address(where, text))
    if "://" in text and " @" not in text and not text.lower().startswith("file:"):
        _address(where, text)
    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        raise _refused(where, _explain(text, error)) from None
    if parsed.url is not None:
        _address(where, parsed.url)
    elif _LOCAL.match(parsed.name):  # A valid name, which the resolver would still read as a file's.
        raise _refused(where, f"{quoted(text)} {_IS_PATH}")
    return replace(base, text=str(parsed), name=str(canonicalize_name(parsed.name)), parsed=parsed)


def _address(where: tuple[str, int], url: str) -> str:
    if re.search(r"\s", url.partition(" ;")[0]) or not (_VCS.match(url) or _ARCHIVE.match(url)):
        raise _refused(where, f"{quoted(url)} cannot be fetched; only https:// and git+https:// addresses can.")
    return url


def _explain(text: str, error: InvalidRequirement) -> str:
    if _LOCAL.match(text):
        return f"{quoted(text)} {_IS_PATH}"
    if re.match(r"[A-Za-z0-9_.-]+\s*=[^=]", text):
        return f"{quoted(text)} is not a requirement; write `==` between name and version."
    if re.match(r"(python[\d.]* -m )?pip3? install", text):
        return "Write only the package's name and version on the line, without `pip install`."
    reason = str(error).splitlines()[0][:120]
    return f"{quoted(text)} is not a requirement ({reason}). Write a name such as `numpy>=2`, one per line."
