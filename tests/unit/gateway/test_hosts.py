from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gateway.hosts import own_hosts, space_host


def test_the_port_the_case_and_the_final_dot_do_not_matter() -> None:
    for text in ("a.localhost", "A.LocalHost", "a.localhost:7878", "a.localhost.", "a.localhost.:1", "a.localhost:"):
        assert space_host(text, "localhost") == "a.localhost"


def test_the_inside_name_of_a_space_is_its_own() -> None:
    assert space_host("a-b.dormouse.internal:80", "apps.example.com") == "a-b.apps.example.com"
    assert space_host("a.b.dormouse.internal", "apps.example.com") == "a.b.dormouse.internal"


def test_what_is_no_host_name_is_none() -> None:
    for text in (
        "",
        ".",
        "..",
        "a/b",
        "a b",
        "a..b",
        "-a.b",
        "a.b-",
        "pub/a",
        "a\nb",
        "x" * 254,
        "x" * 5000,
        "é.de",
        "a%2e",
    ):
        assert space_host(text, "localhost") is None


@given(st.text(max_size=300))
def test_whatever_comes_a_host_is_short_and_plain(text: str) -> None:
    host = space_host(text, "localhost")
    assert host is None or (len(host) <= 253 and host.isascii() and host == host.lower() and "/" not in host)


def test_own_names_depend_on_where_we_listen() -> None:
    assert own_hosts("Example.com", "0.0.0.0") == ["example.com", "127.0.0.1", "[::1]", "dormouse.internal"]
    assert "localhost" in own_hosts("example.com", "127.0.0.1")
    assert "localhost" in own_hosts("localhost", "0.0.0.0")
    assert "10.1.2.3" in own_hosts("example.com", "10.1.2.3")
    assert "[fd00::1]" in own_hosts("example.com", "fd00::1")
    assert len(set(own_hosts("127.0.0.1", "127.0.0.1"))) == len(own_hosts("127.0.0.1", "127.0.0.1"))
