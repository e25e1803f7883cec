"""Reads the first request on a connection to the egress proxy. Pure: bytes in, a request out.

Two forms exist: `CONNECT host:port` opens a tunnel; `GET http://host/path` is sent on as `GET /path` with
`Connection: close`, so that a connection carries one request and a second one cannot ride along to another host.
"""

from dataclasses import dataclass

from orchestrator.runner.egress_policy import Refusal, Target, parse_authority

HEAD_BYTES_MAX = 64 << 10
_HOP_HEADERS = frozenset(("connection", "proxy-connection", "proxy-authorization", "keep-alive", "host", "upgrade"))


@dataclass(frozen=True)
class ProxyRequest:
    """What the client asked for."""

    target: Target
    tunnel: bool
    head: bytes
    """What is sent on in place of the client's head; empty for a tunnel."""


def parse_request(head: bytes) -> ProxyRequest:
    """`head` ends with the empty line. Raises Refusal."""
    line, _, rest = head.partition(b"\r\n")
    words = line.decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refusal(400, "This is a proxy for HTTP/1.1.", "malformed")
    method, url, version = words
    if method == "CONNECT":
        return ProxyRequest(parse_authority(url, 443), tunnel=True, head=b"")
    if not url.lower().startswith("http://"):
        raise Refusal(400, "Ask this proxy for http://host/path, or CONNECT host:port.", "malformed")
    authority, path = _split_url(url[len("http://") :])
    target = parse_authority(authority, 80)
    return ProxyRequest(target, tunnel=False, head=_rewritten(method, path, version, authority, rest))


def _split_url(text: str) -> tuple[str, str]:
    ends = [index for index in map(text.find, "/?#") if index >= 0]
    end = min(ends, default=len(text))
    path = text[end:].partition("#")[0]
    return text[:end], path if path.startswith("/") else f"/{path}"


def _rewritten(method: str, path: str, version: str, authority: str, rest: bytes) -> bytes:
    lines = [f"{method} {path} {version}", f"Host: {authority}", "Connection: close"]
    for line in rest.decode("latin-1").split("\r\n"):
        name = line.partition(":")[0].strip().lower()
        # A line that begins with a space continues the one before: an old form that hides names from this filter.
        if line.startswith((" ", "\t")) or "\n" in line or "\0" in line:
            raise Refusal(400, "A header of this request is malformed.", "malformed")
        if line and name not in _HOP_HEADERS:
            lines.append(line)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
