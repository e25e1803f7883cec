"""What a visitor of a Space's host may show to be let into a private Space: where it stands in a request. Pure.

The gateway's agent and the API read it by this one rule. Nothing here says whether a credential is good; a request
may carry several, because apps have uses of their own for `Authorization`, so each is tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

COOKIE = "dormouse_app"
"""Cookie of a Space's own host that holds a signed token."""
HEADER = "x-hf-authorization"
"""Sent by the clients of the Hub, who leave `Authorization` to the app. It never reaches an app."""
QUERY = "__sign"
"""Parameter of the address with which our pages open a private Space."""
_ONE_MAX = 2000
_COUNT_MAX = 6
_QUERY_MAX = 16_000


@dataclass(frozen=True)
class Credentials:
    """What a request shows, most deliberate first; empty for a stranger. Never logged, so never printed."""

    shown: Sequence[str] = field(default=(), repr=False)
    signed: str = field(default="", repr=False)
    """The one of them that the address carries."""


NOTHING_SHOWN = Credentials()


def credentials(headers: Mapping[str, str], target: str) -> Credentials:
    """Read the headers (names in lower case) and the target, a path with its query."""
    signed = _signed(target)
    found = [signed, *_cookies(headers.get("cookie", ""))]
    found += [_bearer(headers.get(name, "")) for name in (HEADER, "authorization")]
    usable = [value for value in dict.fromkeys(found) if value and len(value) <= _ONE_MAX and value.isascii()]
    return Credentials(tuple(usable[:_COUNT_MAX]), signed if signed in usable else "")


def with_signature(address: str, token: str) -> str:
    """`address` with a signed token, as a page opens it."""
    parts = urlsplit(address)
    query = "&".join(text for text in (parts.query, urlencode({QUERY: token})) if text)
    return urlunsplit(parts._replace(query=query))


def _signed(target: str) -> str:
    query = target.partition("?")[2].partition("#")[0]
    if QUERY not in query or len(query) > _QUERY_MAX:
        return ""
    try:
        return parse_qs(query, max_num_fields=1000).get(QUERY, [""])[-1]
    except ValueError:
        return ""


def _cookies(header: str) -> list[str]:
    """Every cookie of that name: a neighbour may have planted another, which must not hide the right one.

    Several `Cookie` headers arrive here joined by commas, which no value of ours contains.
    """
    pairs = (part.strip().partition("=") for part in header.replace(",", ";").split(";"))
    return [value.strip('"') for name, _, value in pairs if name == COOKIE]


def _bearer(header: str) -> str:
    kind, _, value = header.strip().partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""
