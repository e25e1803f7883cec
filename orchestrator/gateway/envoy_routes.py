"""How Envoy picks where a request goes: virtual hosts, the Lua choice and the retry rules, as plain dicts.

There is no route table. Dormouse's own host names form one virtual host that leads to the API; every other name
asks a few lines of Lua which cluster exists. Cluster names carry a prefix (`pub/`, `prv/`, `hold/`), so that no Host
header can name a cluster of ours (`xds`, `api`, `hold`).

The public listener never chooses a private Space (`prv/`): its requests are all held, and the hold listener chooses
it only with the agent's word that this visitor may. Without the agent nobody reaches it.

The Lua of the hold listener never asks for the marker and never answers `hold`: a request that circled between the
two would do so without end.
"""

from typing import Any

from orchestrator.gateway.hosts import INTERNAL_DOMAIN, own_hosts
from orchestrator.settings import Settings

AGAIN_HEADER = "x-dormouse-again"
"""On an answer of the hold listener itself: nothing has reached the app yet, so the front may try again."""
HELD_HEADER = "x-dormouse-held"
"""Set by the agent's OK: without a changed header Envoy would not choose the cluster anew. Removed before the app."""
ADMITTED = "admitted"
"""Its value where the visitor has shown that he may see a private Space. Visitors cannot say it themselves: the public
listener strips what they send under our names."""
BODY_BUFFER_BYTES = 1 << 20
"""A request body up to this size can be replayed when the app's connection fails."""
STREAM_IDLE = "3600s"

_TYPE = "type.googleapis.com/envoy.extensions."
_HOST_LUA = """\
local function space_host(h)
  local a = h:headers():get(":authority")
  if a == nil then return "" end
  a = string.gsub(string.lower(a), ":%d*$", "")
  a = string.gsub(a, "%.$", "")
  local label = string.match(a, "^([%w-]+)%.@INTERNAL@$")
  if label ~= nil then return label .. ".@SPACES@" end
  return a
end
"""
_FRONT_LUA = """\
function envoy_on_route(h)
  local host = space_host(h)
  if h:getCluster("hold/" .. host) ~= nil then return "hold" end
  if h:getCluster("pub/" .. host) ~= nil then return "pub/" .. host end
  return "hold"
end
"""
_HELD_LUA = """\
function envoy_on_route(h)
  local host = space_host(h)
  if h:headers():get("@HELD@") == "@ADMITTED@" and h:getCluster("prv/" .. host) ~= nil then return "prv/" .. host end
  if h:getCluster("pub/" .. host) ~= nil then return "pub/" .. host end
  return "nobody"
end
"""


def front_routes(settings: Settings) -> dict[str, Any]:
    """Route configuration of the public listener."""
    forwarded = {"key": "x-forwarded-host", "value": "%REQ(:authority)%"}
    shared = {
        "request_headers_to_add": [{"header": forwarded, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        "request_headers_to_remove": ["x-envoy-external-address"],
        "response_headers_to_remove": [AGAIN_HEADER],
    }
    own = own_hosts(settings.domain, settings.bind)
    return {
        "name": "front",
        "ignore_port_in_host_matching": True,
        "cluster_specifier_plugins": [_choice(_FRONT_LUA, settings, default="hold")],
        "virtual_hosts": [
            {"name": "own", "domains": own, "routes": _api_routes("/"), **shared},
            {"name": "spaces", "domains": ["*"], "routes": _space_routes(settings), **shared},
        ],
    }


def held_routes(settings: Settings) -> dict[str, Any]:
    """Route configuration of the hold listener: the app if it is there, an error otherwise.

    With the agent's word for it there is one try only. Without it (the agent is away, its restart takes a second or
    two) the tries go on for a moment, then the public listener asks again.
    """
    with_agent = {"prefix": "/", "headers": [{"name": HELD_HEADER, "present_match": True}]}
    patience = {
        "retry_on": "connect-failure",
        "num_retries": 4,
        "retry_back_off": {"base_interval": "0.2s", "max_interval": "0.4s"},
    }
    without_agent = {
        "match": {"prefix": "/"},
        "request_body_buffer_limit": BODY_BUFFER_BYTES,
        "route": _to_space(patience),
    }
    routes = [{"match": with_agent, "route": _to_space()}, without_agent]
    return {
        "name": "held",
        "cluster_specifier_plugins": [_choice(_HELD_LUA, settings, default="nobody")],
        "request_headers_to_remove": [HELD_HEADER],
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
    }


def _choice(code: str, settings: Settings, *, default: str) -> dict[str, Any]:
    helper = _HOST_LUA.replace("@INTERNAL@", INTERNAL_DOMAIN.replace(".", "%."))
    code = code.replace("@HELD@", HELD_HEADER).replace("@ADMITTED@", ADMITTED)
    source = helper.replace("@SPACES@", settings.spaces_domain.lower()) + code
    config = {
        "@type": _TYPE + "router.cluster_specifiers.lua.v3.LuaConfig",
        "default_cluster": default,
        "source_code": {"inline_string": source},
    }
    return {"extension": {"name": "choice", "typed_config": config}}


def _space_routes(settings: Settings) -> list[dict[str, Any]]:
    replayable = "connect-failure,refused-stream,reset-before-request,retriable-headers"
    safe = {"match": _safe_methods("/"), "route": _to_space(_retries(replayable + ",reset"))}
    other = {
        "match": {"prefix": "/"},
        "request_body_buffer_limit": BODY_BUFFER_BYTES,
        "route": _to_space(_retries(replayable)),
    }
    return [*_api_routes("/.dormouse/"), *_by_address(settings), safe, other]


def _by_address(settings: Settings) -> list[dict[str, Any]]:
    """A listener on every address is reached by addresses that are not known here; no Space is named like one."""
    if settings.bind not in ("0.0.0.0", "::"):  # noqa: S104
        return []
    literal = {"name": ":authority", "string_match": {"safe_regex": {"regex": r"([0-9.]+|\[[0-9a-fA-F:.]+\])(:\d+)?"}}}
    routes = _api_routes("/")
    for route in routes:
        route["match"].setdefault("headers", []).append(literal)
    return routes


def _safe_methods(prefix: str) -> dict[str, Any]:
    methods = {"safe_regex": {"regex": "GET|HEAD|OPTIONS"}}
    return {"prefix": prefix, "headers": [{"name": ":method", "string_match": methods}]}


def _api_routes(prefix: str) -> list[dict[str, Any]]:
    """Bodies stream through unbuffered (a git push may be large), so only requests without one are tried again."""
    bridge = {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 8,
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
    }
    return [
        {"match": _safe_methods(prefix), "route": {**_endless(), "cluster": "api", "retry_policy": bridge}},
        {"match": {"prefix": prefix}, "route": {**_endless(), "cluster": "api"}},
    ]


def _to_space(retries: dict[str, Any] | None = None) -> dict[str, Any]:
    route = {**_endless(), "cluster_specifier_plugin": "choice"}
    return {**route, "retry_policy": retries} if retries else route


def _endless() -> dict[str, Any]:
    """No total limit: event streams, WebSockets and uploads last as long as they last."""
    return {"timeout": "0s", "idle_timeout": STREAM_IDLE}


def _retries(retry_on: str) -> dict[str, Any]:
    """Try the app, then the hold listener (its second priority), with growing pauses."""
    previous = {"@type": _TYPE + "retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"}
    return {
        "retry_on": retry_on,
        "num_retries": 4,
        "retriable_headers": [{"name": AGAIN_HEADER, "present_match": True}],
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {**previous, "update_frequency": 1},
        },
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "1s"},
    }
