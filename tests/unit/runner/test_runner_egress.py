"""The rules of the way out, and how its requests are read."""

import ipaddress

import pytest

from orchestrator.runner.egress_policy import Policy, Refusal, Target, parse_authority, parse_networks
from orchestrator.runner.egress_request import parse_request

POLICY = Policy(own_port=7878, domains=("apps.example",), allowed=parse_networks("10.9.0.0/16"))
OWN = frozenset({ipaddress.ip_address("198.41.0.4")})


def check(address: str, port: int = 443) -> None:
    POLICY.check(Target("name", port), [ipaddress.ip_address(address)], OWN)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
     "192.0.0.192", "168.63.129.16", "192.88.99.1", "3fff::1",
     "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.41.0.4", "203.0.113.80", "192.0.2.1", "::1", "::", "fe80::1",
     "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:198.41.0.4", "::127.0.0.1",
     "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "fec0::1"],
)  # fmt: skip
def test_what_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(Refusal) as refusal:
        check(address)
    assert (refusal.value.status, refusal.value.outcome) == (403, "address")


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_the_public_internet_is_open_by_http_and_https(address: str) -> None:
    check(address, 80)
    check(address, 443)
    with pytest.raises(Refusal, match="Port 25"):
        check(address, 25)


def test_allowed_networks_are_open_on_every_port() -> None:
    check("10.9.1.1", 5432)
    check("::ffff:10.9.1.1", 5432)
    with pytest.raises(Refusal):
        check("10.10.1.1", 443)


def test_one_bad_address_refuses_the_name() -> None:
    addresses = [ipaddress.ip_address("1.1.1.1"), ipaddress.ip_address("127.0.0.1")]
    with pytest.raises(Refusal):
        POLICY.check(Target("name", 443), addresses, OWN)


def test_dormouse_itself_is_known_by_name_and_port() -> None:
    assert POLICY.is_own(Target("dormouse.internal", 7878))
    assert POLICY.is_own(Target("a-b.apps.example", 7878))
    for other in (("dormouse.internal", 80), ("evil-apps.example", 7878), ("127.0.0.1", 7878), ("internal", 7878)):
        assert not POLICY.is_own(Target(*other))


@pytest.mark.parametrize(
    ("text", "target"),
    [("a.b:81", ("a.b", 81)), ("A.B.", ("a.b", 80)), ("[::1]:443", ("::1", 443)), ("[::1]", ("::1", 80)),
     ("h:", ("h", 80))],
)  # fmt: skip
def test_authorities(text: str, target: tuple[str, int]) -> None:
    assert parse_authority(text, 80) == Target(*target)


@pytest.mark.parametrize("text", ["", ":80", "a:b", "a:0", "a:65536", "u@h:80", "[::1", "[::1]x", "a:٣", "x" * 300])
def test_malformed_authorities_are_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_authority(text, 80)
    assert refusal.value.status == 400


def test_a_tunnel() -> None:
    request = parse_request(b"CONNECT Host.Example:443 HTTP/1.0\r\nHost: other\r\n\r\n")
    assert (request.target, request.tunnel, request.head) == (Target("host.example", 443), True, b"")


def test_a_plain_request_is_rewritten_for_its_server() -> None:
    request = parse_request(
        b"GET http://h.example:81?q=1#part HTTP/1.1\r\nHost: other\r\nProxy-Authorization: x\r\n"
        b"Connection: keep-alive\r\nX-Mine: yes\r\n\r\n"
    )
    assert request.target == Target("h.example", 81)
    assert request.head == (
        b"GET /?q=1 HTTP/1.1\r\nHost: h.example:81\r\nConnection: close\r\nX-Mine: yes\r\n\r\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.1\r\n\r\n", b"GET https://h/ HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n",
     b"GET http://h/ SPDY/3\r\n\r\n",
     b"GET http://h/ HTTP/1.1\r\nX: a\r\n Host: b\r\n\r\n", b"GET http://h/ HTTP/1.1\r\nX: a\nHost: b\r\n\r\n",
     b"GET http://u@h/ HTTP/1.1\r\n\r\n", b"\r\n\r\n"],
)  # fmt: skip
def test_other_requests_are_refused(head: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_request(head)
    assert refusal.value.status == 400


def test_networks_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"10\.0"):
        parse_networks("10.0/99")
    assert parse_networks("") == ()
