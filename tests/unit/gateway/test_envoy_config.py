"""What Envoy is told, read back. Each test guards a trap that was met in practice."""

from typing import Any

import pytest
import yaml

from orchestrator.gateway import caddy
from orchestrator.gateway.envoy_config import byte_log_interval_s, render
from orchestrator.settings import Settings


def config(**values: Any) -> dict[str, Any]:
    return yaml.safe_load(render(Settings(**values)))


def walk(value: Any) -> list[dict[str, Any]]:
    """Every mapping in the configuration."""
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in walk(item))]
    return [found for item in value for found in walk(item)] if isinstance(value, list) else []


def manager(data: dict[str, Any], listener: str) -> dict[str, Any]:
    found = next(item for item in data["static_resources"]["listeners"] if item["name"] == listener)
    return found["filter_chains"][0]["filters"][0]["typed_config"]


def lua(data: dict[str, Any], listener: str) -> str:
    plugin = manager(data, listener)["route_config"]["cluster_specifier_plugins"][0]
    return plugin["extension"]["typed_config"]["source_code"]["inline_string"]


def test_one_public_port_and_nothing_else_on_the_network() -> None:
    sockets = [item["socket_address"] for item in walk(config(bind="0.0.0.0", port=8000)) if "socket_address" in item]
    assert sockets == [{"address": "0.0.0.0", "port_value": 8000}]


def test_no_route_has_a_time_limit() -> None:
    routes = [item["route"] for item in walk(config()) if "route" in item]
    assert len(routes) >= 8
    assert {(route["timeout"], route["idle_timeout"]) for route in routes} == {("0s", "3600s")}


def test_the_hold_listener_cannot_circle() -> None:
    data = config()
    held = lua(data, "hold")
    assert '"hold' not in held
    assert 'getCluster("pub/"' in held
    tries = [item["retry_policy"] for item in walk(manager(data, "hold")) if "retry_policy" in item]
    assert [policy["retry_on"] for policy in tries] == ["connect-failure"]
    assert "retry_priority" not in tries[0]
    first = manager(data, "hold")["route_config"]["virtual_hosts"][0]["routes"][0]
    assert first["match"]["headers"] == [{"name": "x-dormouse-held", "present_match": True}]
    assert "retry_policy" not in first["route"]


def test_the_marker_is_asked_for_before_the_app() -> None:
    front = lua(config(), "public")
    assert front.index('getCluster("hold/"') < front.index('getCluster("pub/"')


def test_bodies_to_the_api_are_not_buffered() -> None:
    routes = manager(config(), "public")["route_config"]["virtual_hosts"][0]["routes"]
    assert [route["route"]["cluster"] for route in routes] == ["api", "api"]
    assert not [route for route in routes if "request_body_buffer_limit" in route]
    assert [("retry_policy" in route["route"]) for route in routes] == [True, False]


def test_buffers_are_small_everywhere() -> None:
    resources = config()["static_resources"]
    for item in resources["listeners"] + resources["clusters"]:
        assert item["per_connection_buffer_limit_bytes"] == 65536


def test_names_of_other_installations() -> None:
    data = config(domain="Dormouse.Example.com", apps_domain="Apps.Example.com", bind="0.0.0.0")
    routes = manager(data, "public")["route_config"]
    assert "dormouse.example.com" in routes["virtual_hosts"][0]["domains"]
    assert "localhost" not in routes["virtual_hosts"][0]["domains"]
    assert '".apps.example.com"' in lua(data, "public")
    literal = [item["safe_regex"]["regex"] for item in walk(routes["virtual_hosts"][1]) if "safe_regex" in item]
    assert any("0-9." in regex for regex in literal), "an address leads to the API when we listen on all"
    assert routes["ignore_port_in_host_matching"] is True


def test_the_agent_has_longer_than_the_longest_hold() -> None:
    data = config(hold_timeout_s=300.0)
    authorization = manager(data, "hold")["http_filters"][0]["typed_config"]
    assert authorization["grpc_service"]["timeout"] == "315s"
    assert authorization["failure_mode_allow"] is True
    assert authorization["clear_route_cache"] is True
    seen = [pattern["exact"] for pattern in authorization["allowed_headers"]["patterns"]]
    assert {"authorization", "cookie", "x-hf-authorization"} < set(seen)


def test_the_public_listener_never_chooses_a_private_space() -> None:
    data = config()
    assert "prv/" not in lua(data, "public")
    choice = next(line for line in lua(data, "hold").splitlines() if "prv/" in line)
    assert choice.strip().startswith('if h:headers():get("x-dormouse-held") == "admitted" and ')
    stripped = walk(manager(data, "public")["early_header_mutation_extensions"])
    assert {"prefix": "x-dormouse-"} in stripped


@pytest.mark.parametrize(("idle_tab_s", "interval"), [(6 * 3600, 10.0), (20, 4.0), (1, 1.0)])
def test_the_byte_log_is_finer_than_the_idle_limit(idle_tab_s: int, interval: float) -> None:
    assert byte_log_interval_s(Settings(idle_tab_s=idle_tab_s)) == interval


def test_caddy_listens_on_a_socket_only() -> None:
    text = caddy.render(Settings(apps_domain="apps.example.com"))
    assert "default_bind unix/caddy.sock|0600" in text
    assert "admin off" in text
    assert "../sites/{re.inside.1}.apps.example.com" in text
    assert "@INTERNAL@" not in text
