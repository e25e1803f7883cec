"""What the way out of a Space lets through. Pure: names and addresses in, decisions out.

A Space may reach the public internet by HTTP and HTTPS, networks that the administrator names, and Dormouse's own
public listener under `dormouse.internal`. Everything else is refused: this machine, its private networks, the
metadata service of a cloud. Addresses are judged after the name was resolved, and the judged address is the one that
is dialled, so a name that answers differently the next time gains nothing.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

OWN_NAME = "dormouse.internal"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = frozenset((80, 443))
# Python calls some of these global. The IPv6 ones reach an IPv4 address of choice, document, or are no longer in use.
_NEVER_TEXT = """
    64:ff9b::/96 64:ff9b:1::/48 2002::/16 2001::/32 ::/96 fec0::/10 3fff::/20
    100.64.0.0/10 192.0.0.0/24 192.88.99.0/24
    168.63.129.16/32
"""
"""The last but one line holds shared and special-purpose addresses (clouds put services there), the last one the
address at which one cloud's host agent answers every machine."""
_NEVER = tuple(ipaddress.ip_network(text) for text in _NEVER_TEXT.split())


@dataclass(frozen=True)
class Target:
    """Where a client wants to go."""

    host: str
    port: int


class Refusal(Exception):
    """The request is answered with this status and sentence."""

    def __init__(self, status: int, message: str, outcome: str) -> None:
        super().__init__(message)
        self.status, self.message, self.outcome = status, message, outcome


def parse_networks(text: str) -> tuple[Network, ...]:
    """Comma-separated networks; raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def parse_authority(text: str, default_port: int) -> Target:
    """`host[:port]`, with IPv6 addresses in brackets. Raises Refusal."""
    malformed = Refusal(400, f"{text[:100]!r} is no host and port.", "malformed")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise malformed
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if not host or "@" in host or len(host) > 255 or (port and not (port.isascii() and port.isdecimal())):
        raise malformed
    number = int(port) if port and len(port) <= 5 else default_port
    if not 1 <= number <= 65535:
        raise malformed
    return Target(host.lower().rstrip("."), number)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The rules of one installation."""

    own_port: int
    """Port of Dormouse's public listener."""
    domains: Sequence[str] = ()
    """Domains that Dormouse itself answers for: they lead to its listener, wherever their name points."""
    allowed: Sequence[Network] = ()
    """Networks that may be reached on every port though they are not public."""

    def is_own(self, target: Target) -> bool:
        """Whether this is Dormouse's public listener."""
        if target.port != self.own_port:
            return False
        ours = (OWN_NAME, *self.domains)
        return any(target.host == domain or target.host.endswith(f".{domain}") for domain in ours)

    def check(self, target: Target, addresses: Sequence[Address], own_addresses: frozenset[Address]) -> None:
        """Raise Refusal unless every address may be dialled."""
        for address in map(_unwrapped, addresses):
            if any(address in network for network in self.allowed if network.version == address.version):
                continue
            if target.port not in _PORTS:
                raise Refusal(403, f"Port {target.port} is not open to Spaces: ports 80 and 443 are.", "port")
            if address in own_addresses or not is_public(address):
                raise Refusal(
                    403, f"{target.host} is not on the public internet, and Spaces reach only that. "
                    "An administrator can allow its network with DORMOUSE_EGRESS_ALLOW.", "address",
                )  # fmt: skip


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet."""
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _NEVER if network.version == address.version)


def _unwrapped(address: Address) -> Address:
    """An IPv4 address written as IPv6 is judged as what it is."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
