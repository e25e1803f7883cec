"""What the resolver's texts mean, and what a lock says.

The resolver is a program whose findings are sentences. Only here is it known how they are worded; the version of the
program is pinned by the installation's own lock, and a test with the real one guards each of these signs.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

_NO_WHEEL = re.compile(
    r"no usable wheels|building from source is disabled|source distributions? .* disabled", re.IGNORECASE
)
_NETWORK = re.compile(
    r"error sending request|dns error|Request failed after|tcp connect|connection (refused|reset|closed)|timed? ?out"
    r"|Failed to fetch.*\b5\d\d\b|status server error|Temporary failure in name|tunnel error|unsuccessful tunnel",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"Because (\S+) was not found in the (?:package registry|cache|provided)", re.IGNORECASE)
_NO_VERSION = re.compile(r"there (?:is|are) no versions? of (\S+)", re.IGNORECASE)
_TAIL = re.compile(r",? we can conclude that your requirements are unsatisfiable\.?")
_OWN = re.compile(r"Because (?:there is no version of \S+|\S+ was not found in the [\w ]+) and you require \S+")
_CAUSE = re.compile(r"^\s*(?:cause:|╰─▶|├─▶|│)\s*")
_LOCKED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)
_TEXT_MAX = 1500


@dataclass(frozen=True)
class Explained:
    code: str
    message: str
    retry: bool = False


def lacks_wheels(said: str) -> bool:
    """Whether the only obstacle is that something would have to be built from source."""
    return bool(_NO_WHEEL.search(said)) and not _NETWORK.search(said)


def explain(said: str) -> Explained:
    """Why the requirements could not be resolved or installed, for the author."""
    if _NETWORK.search(said):
        message = "The package index could not be reached. Nothing is wrong with this commit; the build is tried again."
        return Explained("index-away", message, retry=True)
    causes = _TAIL.sub("", _causes(said))
    # What the author asked for by name is told already; who else asked for it is news.
    because = "" if not causes or _OWN.fullmatch(causes) else f" ({causes})"
    if match := _UNKNOWN.search(said):
        name = match[1].rstrip(",.")
        message = f"No package is called `{name}`. Correct its name in the requirements, or delete the line.{because}"
        return Explained("unknown-package", message)
    if match := _NO_VERSION.search(said):
        name = match[1].rstrip(",.")
        message = f"There is no such version: `{name}`. Write one that exists into the requirements.{because}"
        return Explained("unknown-version", message)
    if "unsatisfiable" in said or "No solution found" in said:
        return Explained(
            "conflict", f"These requirements contradict each other. {causes.rstrip('.')}. Loosen one of them."
        )
    return Explained("install-failed", f"The packages could not be installed. {causes}".strip())


def _causes(said: str) -> str:
    lines = [_CAUSE.sub("", line).strip() for line in said.splitlines() if _CAUSE.match(line)]
    if not lines:
        lines = [line.strip() for line in said.splitlines() if line.strip()][-6:]
    return " ".join(lines)[:_TEXT_MAX]


def packages(lock: str) -> dict[str, str]:
    """Canonical name -> version of everything in the lock that comes from an index."""
    return {str(canonicalize_name(name)): version for name, version in _LOCKED.findall(lock)}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def narrow(lock: str, wanted: Mapping[str, frozenset[str]]) -> tuple[str, str | None]:
    """The lock with only those hashes that the author asked for, and the first package for which none is left."""
    if not wanted:
        return lock, None
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    kept: list[str] = []
    for block in blocks:
        match = _LOCKED.match(block)
        hashes = wanted.get(str(canonicalize_name(match[1]))) if match else None
        if match is None or not hashes:
            kept.append(block)
            continue
        left = [line for line in re.findall(r"--hash=(\S+)", block) if line in hashes]
        if not left:
            return lock, match[1]
        kept.append(" \\\n    ".join([match[0], *(f"--hash={value}" for value in left)]) + "\n")
    return "".join(kept), None
