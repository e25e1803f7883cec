import pytest

from orchestrator.errors import Unavailable
from orchestrator.gateway.activity import Tabs
from orchestrator.gateway.clusters import CONNECT_TIMEOUT_S, Address
from orchestrator.gateway.drain import Look, is_quiet, parse_look, window_s

NO_TABS = Tabs(0, 0)
LINES = """\
pub/a.localhost::observability_name::pub/a.localhost
pub/a.localhost::default_priority::max_requests::20000
pub/a.localhost::apps/a.sock::cx_connect_fail::1
pub/a.localhost::apps/a.sock::rq_active::2
pub/a.localhost::apps/a.sock::rq_total::40
pub/a.localhost::[::1]:80::rq_active::1
pub/a.localhost::envoy://hold/::rq_active::1
pub/a.localhost::envoy://hold/::rq_total::3
pub/a.localhost::envoy://hold/::cx_connect_fail::0
"""


def look(at: float, in_progress: int = 0, totals: tuple[int, int] = (7, 0)) -> Look:
    return Look(at, in_progress, totals)


def test_counters_are_added_up_over_all_endpoints() -> None:
    assert parse_look(LINES, 5.0) == Look(5.0, 4, (43, 1))


@pytest.mark.parametrize("text", ["", "nonsense", "pub/a::x::rq_total::1"])
def test_no_counters_are_not_zero(text: str) -> None:
    with pytest.raises(Unavailable):
        parse_look(text, 0.0)


@pytest.mark.parametrize(
    ("first", "second", "quiet"),
    [
        (look(0), look(0.05), True),
        (look(0), look(0.049), False),
        (look(0, 1), look(0.05), False),
        (look(0), look(0.05, 1), False),
        (look(0), look(0.05, 0, (8, 0)), False),
        (look(0), look(0.05, 0, (7, 1)), False),
    ],
)
def test_two_looks_must_agree_and_lie_apart(first: Look, second: Look, quiet: bool) -> None:
    assert is_quiet(first, second, window_s=0.05, tabs=NO_TABS, settled=True) is quiet


@pytest.mark.parametrize(
    ("in_progress", "tabs", "settled", "quiet"),
    [
        (2, Tabs(idle=2, busy=0), True, True),
        (2, Tabs(idle=2, busy=0), False, False),
        (3, Tabs(idle=2, busy=0), True, False),
        (2, Tabs(idle=2, busy=1), True, False),
        (1, Tabs(idle=5, busy=0), True, True),
    ],
)
def test_only_tabs_that_are_long_idle_do_not_count(in_progress: int, tabs: Tabs, settled: bool, quiet: bool) -> None:
    result = is_quiet(look(0, in_progress), look(1, in_progress), window_s=0.05, tabs=tabs, settled=settled)
    assert result is quiet


def test_a_tcp_replica_is_watched_longer_than_a_connection_may_take() -> None:
    assert window_s(Address(ip="10.0.0.1", port=80)) > CONNECT_TIMEOUT_S
    assert window_s(Address(socket="apps/a.sock")) < CONNECT_TIMEOUT_S
