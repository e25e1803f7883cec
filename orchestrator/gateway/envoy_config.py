"""Settings -> the text of Envoy's configuration file. Pure, so that a test can read what Envoy will be told.

Everything that never changes while Dormouse runs is here: two listeners (the public one, and the internal one that
holds requests while a Space wakes) and four clusters of ours (api, hold, xds, and one that leads nowhere). Spaces
appear as clusters pushed by the agent, never here.

Names of sockets are relative to Envoy's working folder, because the path of a Unix socket is limited to 107 bytes.
Nothing here listens on the network but the one public listener.
"""

from typing import Any

import yaml

from orchestrator.domain.credentials import HEADER
from orchestrator.gateway.envoy_routes import AGAIN_HEADER, STREAM_IDLE, front_routes, held_routes
from orchestrator.settings import Settings

BUFFER_BYTES = 64 << 10
"""Per connection and direction: a thousand slow readers cost memory in proportion to this."""
LIMIT = 20_000
"""Circuit breakers of our own clusters: high, because the number of connections is limited at the front."""
UPSTREAM_IDLE = "3s"
"""Shorter than uvicorn's five seconds: no request meets the closing of a pooled connection."""
HEADERS_KB = 64
HEADERS_COUNT = 200
STRIPPED_PREFIXES = ("x-forwarded-", "x-space-", "x-dormouse-", "x-envoy-")
_TYPE = "type.googleapis.com/envoy.extensions."
_HCM = _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager"


def byte_log_interval_s(settings: Settings) -> float:
    """How often an open stream's bytes are logged: often enough to tell an idle tab from a used one in time."""
    return min(10.0, max(1.0, settings.idle_tab_s / 5))


def render(settings: Settings, *, connections_max: int = LIMIT) -> str:
    """The configuration file. `connections_max` is what the limit on open files allows."""
    config = {
        "node": {"id": "gateway", "cluster": "dormouse"},
        "admin": {"address": {"pipe": {"path": "envoy-admin.sock", "mode": 0o600}}},
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {"@type": _TYPE + "bootstrap.internal_listener.v3.InternalListener"},
            }
        ],
        "dynamic_resources": _discovery(),
        "cluster_manager": {
            "enable_deferred_cluster_creation": True,
            "load_stats_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
        },
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": _kept_stats()}}},
        "overload_manager": _overload(connections_max),
        "static_resources": {
            "listeners": [_public_listener(settings), _hold_listener(settings)],
            "clusters": [_xds_cluster(), _api_cluster(), _hold_cluster(), _nobody_cluster()],
        },
    }
    return yaml.dump(config, Dumper=_PlainDumper, sort_keys=False, width=120)


class _PlainDumper(yaml.SafeDumper):
    """Writes shared parts out in full: anchors would only puzzle a reader of the file."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _kept_stats() -> list[dict[str, str]]:
    """Statistics of each Space's cluster would cost 5 KB each; load reports and /clusters work without them."""
    ours = ("cluster.api.", "cluster.hold.", "cluster.xds.")
    return [
        {"prefix": prefix}
        for prefix in ("http.", "cluster_manager.", "server.", "control_plane.", "listener.", "overload.", *ours)
    ]


def _discovery() -> dict[str, Any]:
    """The default back-off grows to 30 s, in which a restarted agent could not wake anything."""
    back_off = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
    return {
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds", "retry_policy": back_off}}],
        },
        "cds_config": {"resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "3s"},
    }


def _overload(connections_max: int) -> dict[str, Any]:
    kind = _TYPE + "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {"@type": kind, "max_active_downstream_connections": connections_max},
    }
    return {"refresh_interval": "0.25s", "resource_monitors": [monitor]}


# --- listeners ------------------------------------------------------------------------------------------------------


def _public_listener(settings: Settings) -> dict[str, Any]:
    manager = {
        **_manager("front", settings),
        "use_remote_address": True,
        "normalize_path": True,
        "request_headers_timeout": "15s",
        "max_request_headers_kb": HEADERS_KB,
        "early_header_mutation_extensions": [_strip_visitors_headers()],
        "access_log_options": {"access_log_flush_interval": f"{byte_log_interval_s(settings):g}s"},
        "access_log": [_byte_log()],
        "route_config": front_routes(settings),
        "http_filters": [_router()],
    }
    manager["common_http_protocol_options"] = {"idle_timeout": STREAM_IDLE, "max_headers_count": HEADERS_COUNT}
    return {
        "name": "public",
        "address": {"socket_address": {"address": _bindable(settings.bind), "port_value": settings.port}},
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [_chain(manager)],
    }


def _hold_listener(settings: Settings) -> dict[str, Any]:
    """Limits are a little wider than the public listener's, which has added headers of its own by then."""
    manager = {
        **_manager("hold", settings),
        "skip_xff_append": True,
        "generate_request_id": False,
        "max_request_headers_kb": HEADERS_KB + 32,
        "common_http_protocol_options": {"max_headers_count": HEADERS_COUNT + 50},
        "local_reply_config": _nothing_sent_reply(),
        "route_config": held_routes(settings),
        "http_filters": [_authorization(settings), _router()],
    }
    return {
        "name": "hold",
        "internal_listener": {},
        "ignore_global_conn_limit": True,
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [_chain(manager)],
    }


def _bindable(bind: str) -> str:
    return "127.0.0.1" if bind == "localhost" else bind


def _chain(manager: dict[str, Any]) -> dict[str, Any]:
    return {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}


def _manager(name: str, settings: Settings) -> dict[str, Any]:
    """What both listeners share. Request ids of visitors are kept, so that theirs, ours and the app's logs agree."""
    ids = {"@type": _TYPE + "request_id.uuid.v3.UuidRequestIdConfig", "pack_trace_reason": False}
    return {
        "@type": _HCM,
        "stat_prefix": name,
        "codec_type": "AUTO",
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": STREAM_IDLE,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "preserve_external_request_id": True,
        "request_id_extension": {"typed_config": ids},
    }


def _strip_visitors_headers() -> dict[str, Any]:
    """What only we may say: taken from what visitors send, before anything reads it."""
    prefixes = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in STRIPPED_PREFIXES]
    kind = _TYPE + "http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": kind, "mutations": [{"remove": "forwarded"}, *prefixes]},
    }


def _byte_log() -> dict[str, Any]:
    """Only periodic entries: a request that ends within the interval makes none, so cost follows long streams."""
    common = {
        "log_name": "bytes",
        "transport_api_version": "V3",
        "buffer_flush_interval": "1s",
        "buffer_size_bytes": 65536,
        "grpc_service": {"envoy_grpc": {"cluster_name": "xds"}},
    }
    kind = _TYPE + "access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
    return {
        "name": "envoy.access_loggers.http_grpc",
        "filter": {"log_type_filter": {"types": ["DownstreamPeriodic"]}},
        "typed_config": {"@type": kind, "common_config": common},
    }


def _authorization(settings: Settings) -> dict[str, Any]:
    """The agent sees these headers and no others; those that open a private Space it hands on and never logs.

    With the agent away the request goes on: a public app that is up (a marker may stand) answers, a sleeping one
    cannot, and of a private one no cluster is chosen.
    """
    seen = ("accept", "sec-fetch-dest", "sec-fetch-mode", "upgrade", "cookie", "authorization", HEADER)
    config = {
        "@type": _TYPE + "filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "clear_route_cache": True,
        "failure_mode_allow": True,
        "status_on_error": {"code": "ServiceUnavailable"},
        "allowed_headers": {"patterns": [{"exact": name, "ignore_case": True} for name in seen]},
        "grpc_service": {"timeout": f"{settings.hold_timeout_s + 15:g}s", "envoy_grpc": {"cluster_name": "xds"}},
    }
    return {"name": "envoy.filters.http.ext_authz", "typed_config": config}


def _nothing_sent_reply() -> dict[str, Any]:
    """No cluster (NC) or no connection (UF): the app has seen nothing, so the public listener may ask once more."""
    body = {"error": "This Space cannot be reached just now. Try again in a moment.", "stage": "UNKNOWN"}
    again = [
        {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for name, value in ((AGAIN_HEADER, "1"), ("retry-after", "2"))
    ]
    return {
        "mappers": [
            {
                "filter": {"response_flag_filter": {"flags": ["NC", "UF"]}},
                "headers_to_add": again,
                "body_format_override": {"json_format": body},
            }
        ]
    }


def _router() -> dict[str, Any]:
    config = {"@type": _TYPE + "filters.http.router.v3.Router", "suppress_envoy_headers": True}
    return {"name": "envoy.filters.http.router", "typed_config": config}


# --- clusters of ours -----------------------------------------------------------------------------------------------


def _cluster(name: str, address: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    protocol = {"@type": _TYPE + "upstreams.http.v3.HttpProtocolOptions", **options}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, LIMIT)]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
    }


def _http1(idle: str) -> dict[str, Any]:
    return {
        "common_http_protocol_options": {"idle_timeout": idle},
        "explicit_http_config": {"http_protocol_options": {}},
    }


def _api_cluster() -> dict[str, Any]:
    return _cluster("api", {"pipe": {"path": "api.sock"}}, _http1(UPSTREAM_IDLE))


def _xds_cluster() -> dict[str, Any]:
    """The agent. Pings find one that is stuck; a dead one is seen at once."""
    http2 = {"connection_keepalive": {"interval": "30s", "timeout": "5s"}, "max_concurrent_streams": LIMIT}
    return _cluster("xds", {"pipe": {"path": "xds.sock"}}, {"explicit_http_config": {"http2_protocol_options": http2}})


def _nobody_cluster() -> dict[str, Any]:
    """Where a host without an app leads: nothing ever listens there, so each try fails at once and can be repeated."""
    return _cluster("nobody", {"pipe": {"path": "nobody.sock"}}, _http1(UPSTREAM_IDLE))


def _hold_cluster() -> dict[str, Any]:
    internal = {"envoy_internal_address": {"server_listener_name": "hold"}}
    raw = {
        "name": "envoy.transport_sockets.raw_buffer",
        "typed_config": {"@type": _TYPE + "transport_sockets.raw_buffer.v3.RawBuffer"},
    }
    kind = _TYPE + "transport_sockets.internal_upstream.v3.InternalUpstreamTransport"
    transport = {
        "name": "envoy.transport_sockets.internal_upstream",
        "typed_config": {"@type": kind, "transport_socket": raw},
    }
    return {**_cluster("hold", internal, _http1(UPSTREAM_IDLE)), "transport_socket": transport}
