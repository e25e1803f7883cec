"""Names and their rules: what a Space, a host, a commit may be called.

The rules for repository names are those that `huggingface_hub` checks on the client; the host rule is that of
HF's subdomains (lower case, every other character a `-`).
"""

import hashlib
import re
from dataclasses import dataclass
from typing import NewType

from orchestrator.errors import Invalid

CommitSha = NewType("CommitSha", str)
BuildId = NewType("BuildId", str)
ReplicaId = NewType("ReplicaId", str)
UserId = NewType("UserId", str)

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,95}")
_SHA = re.compile(r"[0-9a-f]{40}")
# Names that the Hub's routes use in the place of an owner: /api/spaces/<word>/... (`admin` is the first user's name.)
RESERVED_OWNERS = frozenset(
    ("by-subdomain", "hardware", "semantic-search", "templates", "zero-gpu", "api", "spaces", "static", "login",
     "logout", "settings", "internal", "git", "oauth", "metrics", "healthz", "new", "docs")
)  # fmt: skip
HOST_LABEL_MAX = 63


@dataclass(frozen=True, order=True)
class SpaceName:
    """`owner/name` of a Space."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


def check_part(text: str, what: str) -> str:
    """Return `text` if it may be an owner's or a Space's name; raise Invalid with the rule otherwise."""
    ok = _PART.fullmatch(text) and not text.endswith(("-", ".", ".git")) and "--" not in text and ".." not in text
    if not ok:
        raise Invalid(
            f"{text[:100]!r} is no valid {what} name: use 1 to 96 letters, digits, '-', '_' and '.', not starting or "
            f"ending with '-' or '.', without '--' or '..', not ending in '.git'."
        )
    return text


def check_owner(text: str) -> str:
    """Like `check_part`, and refuses words that routes of the Hub API use in an owner's place."""
    if text.lower() in RESERVED_OWNERS:
        raise Invalid(f"{text!r} is a reserved word and cannot be an owner's name.")
    return check_part(text, "owner")


def parse_space_name(text: str) -> SpaceName:
    """Parse `owner/name`; raises Invalid."""
    owner, slash, name = text.partition("/")
    if not slash or "/" in name:
        raise Invalid(f"{text[:200]!r} is no Space id: write owner/name.")
    return SpaceName(check_owner(owner), check_part(name, "Space"))


def is_sha(text: str) -> bool:
    """Whether `text` is a full commit id."""
    return bool(_SHA.fullmatch(text))


def host_label(space: SpaceName, *, clash: bool = False) -> str:
    """First label of a Space's host name: HF's subdomain rule.

    Where that passes 63 characters, or `clash` says another Space has it, a hash of the exact id is appended, so
    that it stays unique. The chosen label is stored with the Space and never computed again.
    """
    label = re.sub(r"[^a-z0-9]", "-", f"{space.owner}-{space.name}".lower()).strip("-") or "space"
    if len(label) <= HOST_LABEL_MAX and not clash:
        return label
    suffix = hashlib.sha256(str(space).encode()).hexdigest()[:8]
    return f"{label[: HOST_LABEL_MAX - 9].rstrip('-')}-{suffix}"
