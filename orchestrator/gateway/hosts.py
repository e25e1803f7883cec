"""Host names as the gateway compares them: one rule, used by the agent and mirrored by the Lua in `envoy_routes`.

A client chooses its Host header freely. Whatever reads it (cluster names, the internal API, a metrics label) goes
through here first, so that nothing but a short, plain, lower-case name gets any further.
"""

import re
from ipaddress import ip_address

INTERNAL_DOMAIN = "dormouse.internal"
"""The name under which Spaces reach Dormouse: it is not loopback, and it resolves nowhere else."""
HOST_BYTES_MAX = 253
_PORT = re.compile(r":\d*$")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")
_INNER = re.compile(r"([a-z0-9-]+)\." + re.escape(INTERNAL_DOMAIN))


def space_host(authority: str, spaces_domain: str) -> str | None:
    """The Space's host name that `authority` asks for: no port, no final dot, lower case; None if it cannot be one."""
    if len(authority) > HOST_BYTES_MAX + 6:
        return None
    host = _PORT.sub("", authority.lower()).removesuffix(".")
    if not _HOST.fullmatch(host) or ".." in host or len(host) > HOST_BYTES_MAX:
        return None
    inner = _INNER.fullmatch(host)
    return f"{inner[1]}.{spaces_domain}" if inner else host


def own_hosts(domain: str, bind: str) -> list[str]:
    """Host names under which Dormouse's own pages and API answer, in the spelling of a Host header without a port."""
    names = [domain.lower(), "127.0.0.1", "[::1]", INTERNAL_DOMAIN]
    if is_loopback(bind):
        names.append("localhost")
    if not is_wildcard(bind):
        names.append(f"[{bind}]" if ":" in bind else bind.lower())
    return list(dict.fromkeys(names))


def is_wildcard(bind: str) -> bool:
    """Whether the listener takes connections on every address of the machine."""
    try:
        return ip_address(bind).is_unspecified
    except ValueError:
        return False


def is_loopback(bind: str) -> bool:
    """Whether only this machine can connect."""
    try:
        return ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"
