import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.space import RouteMode
from orchestrator.errors import Invalid
from orchestrator.gateway.clusters import (
    Address,
    app_resource,
    host_of,
    marker_resource,
    parse_address,
)
from orchestrator.gateway.routes import GatewayRoute, RouteChange, RouteTable, parse_change

HOST = "a.localhost"


def route(mode: str, host: str = HOST, socket: str = "apps/a.sock", generation: int = 1) -> GatewayRoute:
    return GatewayRoute(host, RouteMode(mode), Address(socket=socket), f"unix:{socket}", generation)


def change(*routes: GatewayRoute, full: bool = False) -> RouteChange:
    return RouteChange(1, full, routes)


def test_a_wake_pushes_one_cluster_and_a_sleep_withdraws_both_at_once() -> None:
    table = RouteTable()
    assert set(table.apply(change(route("serve"))).put) == {"pub/a.localhost"}
    push = table.apply(change(route("drain")))
    assert (set(push.put), push.remove) == ({"hold/a.localhost"}, frozenset())
    push = table.apply(change(route("gone")))
    assert (push.put, push.remove) == ({}, {"pub/a.localhost", "hold/a.localhost"})
    assert not table.resources


def test_a_cancelled_drain_removes_the_marker_and_nothing_else() -> None:
    table = RouteTable()
    table.apply(change(route("serve")))
    table.apply(change(route("drain")))
    push = table.apply(change(route("serve", generation=3)))
    assert (push.put, push.remove) == ({}, {"hold/a.localhost"})


def test_a_wake_takes_a_stale_marker_with_it() -> None:
    table = RouteTable()
    table.apply(change(route("drain")))
    push = table.apply(change(route("serve", socket="apps/b.sock")))
    assert (set(push.put), push.remove) == ({"pub/a.localhost"}, {"hold/a.localhost"})


def test_what_has_not_changed_is_not_pushed_again() -> None:
    table = RouteTable()
    table.apply(change(route("serve")))
    assert not table.apply(change(route("serve", generation=9)))
    assert not table.apply(change(route("serve", generation=9), full=True))


def test_a_whole_table_withdraws_what_it_does_not_list() -> None:
    table = RouteTable()
    table.apply(change(route("serve"), route("drain", "b.localhost")))
    push = table.apply(change(route("serve", "c.localhost"), full=True))
    assert set(push.put) == {"pub/c.localhost"}
    assert push.remove == {"pub/a.localhost", "pub/b.localhost", "hold/b.localhost"}
    assert len(table) == 1


routes = st.builds(
    route,
    st.sampled_from(["serve", "drain", "gone"]),
    st.sampled_from(["a.x", "b.x", "c.x"]),
    st.sampled_from(["apps/1.sock", "apps/2.sock"]),
)


@given(st.lists(st.tuples(st.lists(routes, max_size=4, unique_by=lambda r: r.host), st.booleans()), max_size=8))
def test_envoy_ends_with_exactly_what_the_last_rows_say(changes: list[tuple[list[GatewayRoute], bool]]) -> None:
    table, envoy, truth = RouteTable(), {}, {}
    for rows, full in changes:
        push = table.apply(RouteChange(1, full, tuple(rows)))
        assert not set(push.put) & push.remove
        envoy.update(push.put)
        for name in push.remove:
            del envoy[name]
        truth = {**({} if full else truth), **{row.host: row for row in rows}}
    awake = {host: row for host, row in truth.items() if row.mode is not RouteMode.GONE}
    wanted = {"pub/" + host: app_resource(host, row.address) for host, row in awake.items()}
    wanted |= {"hold/" + host: marker_resource(host) for host, row in awake.items() if row.mode is RouteMode.DRAIN}
    assert envoy == wanted == table.resources


def test_a_line_of_the_stream_is_read() -> None:
    row = {"host": HOST, "mode": "serve", "address": "unix:apps/a.sock", "generation": 4, "private": False}
    line = json.dumps({"full": True, "generation": 4, "routes": [row]}).encode()
    assert parse_change(line) == RouteChange(4, True, (route("serve", generation=4),))


def test_one_bad_row_does_not_stop_the_others() -> None:
    good = {"host": HOST, "mode": "gone", "address": "", "generation": 4}
    rows = [good, {"host": "b", "mode": "serve", "address": "unix:/etc/x", "generation": 5}, {"host": "c"}, 7]
    parsed = parse_change(json.dumps({"generation": 5, "routes": rows}).encode())
    assert [r.host for r in parsed.routes] == [HOST]
    assert len(parsed.problems) == 3


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"generation": 1}', b'{"generation": "x", "routes": []}', b"3"])
def test_a_line_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(Invalid):
        parse_change(line)


def test_a_private_space_has_a_cluster_that_the_public_listener_does_not_know() -> None:
    table = RouteTable()
    table.apply(change(route("serve")))
    push = table.apply(change(replace(route("serve"), private=True)))
    assert (set(push.put), push.remove) == ({"prv/a.localhost"}, {"pub/a.localhost"})
    assert host_of("prv/a.localhost") == HOST
    push = table.apply(change(replace(route("drain"), private=True)))
    assert (set(push.put), push.remove) == ({"hold/a.localhost"}, frozenset())
    push = table.apply(change(full=True))
    assert push.remove == {"prv/a.localhost", "hold/a.localhost"}


@pytest.mark.parametrize("said", [{}, {"private": None}, {"private": "no"}, {"private": True}])
def test_a_route_is_private_unless_it_says_that_it_is_not(said: dict[str, object]) -> None:
    row = {"host": HOST, "mode": "serve", "address": "unix:apps/a.sock", "generation": 4, **said}
    assert parse_change(json.dumps({"generation": 5, "routes": [row]}).encode()).routes[0].private


def test_addresses() -> None:
    assert parse_address("unix:apps/x-1.sock") == Address(socket="apps/x-1.sock")
    assert parse_address("tcp:10.0.0.7:8080") == Address(ip="10.0.0.7", port=8080)
    assert parse_address("tcp:[fd00::1]:80") == Address(ip="fd00::1", port=80)


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "unix:/run/x", "unix:../xds.sock", "unix:a/../b", "unix:.x", "unix:a//b", "unix:" + "a" * 101,
     "tcp:host:80", "tcp:10.0.0.1", "tcp:10.0.0.1:0", "tcp:10.0.0.1:99999", "http://x"],
)  # fmt: skip
def test_addresses_that_lead_elsewhere_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_address(text)


def test_the_version_is_a_hash_of_the_content() -> None:
    one, same = app_resource(HOST, Address(socket="a")), app_resource(HOST, Address(socket="a"))
    assert one == same
    assert one.version != app_resource(HOST, Address(socket="b")).version
    assert marker_resource(HOST).name == "hold/a.localhost"
    assert (host_of(one.name), host_of("hold/a.localhost"), host_of("api")) == (HOST, None, None)
