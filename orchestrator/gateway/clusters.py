"""Route -> Envoy cluster: a pure translation. Three kinds exist: `pub/<host>` (an app for everybody), `prv/<host>` (the
app of a private Space, which the public listener never chooses) and `hold/<host>` (the marker).

A public app's cluster has two priorities: the replica's own address, and the hold listener of the same Envoy, so that
a refused connection is one more wake. A private one has the first alone: its visitors come from the hold listener.
The Hub's clients send their user's token in a header of its own; no app is told it.

A resource's version is a hash of its content: an agent that restarts offers the same versions, and Envoy, which has
them already, is not disturbed.
"""

import hashlib
import re
from dataclasses import dataclass
from ipaddress import ip_address

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2
from envoy.extensions.transport_sockets.internal_upstream.v3 import internal_upstream_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2

from orchestrator.domain.credentials import HEADER
from orchestrator.errors import Invalid

APP, PRIVATE, MARKER = "pub/", "prv/", "hold/"
CONNECT_TIMEOUT_S = 1.0
_BUFFER_BYTES = 64 << 10
_LIMIT = 20_000
_IDLE_S = 3
"""Shorter than uvicorn's five seconds: a request never meets the closing of a pooled connection."""
_SOCKET_PATH_MAX = 100
_SOCKET_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Address:
    """Where a replica listens: a Unix socket relative to the run folder, or an IP address and port."""

    socket: str = ""
    ip: str = ""
    port: int = 0


@dataclass(frozen=True)
class Resource:
    """One discovery resource as it goes over the wire."""

    name: str
    version: str
    body: any_pb2.Any


def parse_address(text: str) -> Address:
    """Parse `unix:PATH` or `tcp:IP:PORT`; raises Invalid, because Envoy would refuse or misread anything else."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and len(rest) <= _SOCKET_PATH_MAX and _SOCKET_PATH.fullmatch(rest):
        return Address(socket=rest)
    ip, _, port = rest.rpartition(":")
    try:
        if kind == "tcp" and 0 < int(port) < 65536:
            return Address(ip=str(ip_address(ip.strip("[]"))), port=int(port))
    except ValueError:
        pass
    raise Invalid(f"{text[:200]!r} is no address of a replica: write unix:PATH (relative, short) or tcp:IP:PORT.")


def host_of(cluster_name: str) -> str | None:
    """The host behind the name of an app's cluster; None for every other cluster."""
    kind, slash, host = cluster_name.partition("/")
    return host if kind + slash in (APP, PRIVATE) else None


def app_name(host: str, *, private: bool) -> str:
    """Name of the cluster that leads to a host's replica."""
    return (PRIVATE if private else APP) + host


def app_resource(host: str, address: Address, *, private: bool = False) -> Resource:
    """The cluster that carries a host's requests to its replica."""
    cluster = cluster_pb2.Cluster(name=app_name(host, private=private), type=cluster_pb2.Cluster.STATIC)
    cluster.connect_timeout.FromMilliseconds(int(CONNECT_TIMEOUT_S * 1000))
    cluster.per_connection_buffer_limit_bytes.value = _BUFFER_BYTES
    cluster.load_assignment.cluster_name = cluster.name
    first = cluster.load_assignment.endpoints.add()
    first.lb_endpoints.add().endpoint.address.CopyFrom(_endpoint(address))
    if not private:
        second = cluster.load_assignment.endpoints.add(priority=1)
        second.lb_endpoints.add().endpoint.address.envoy_internal_address.server_listener_name = "hold"
        _reach_internal_listener(cluster)
    _set_limits(cluster)
    return _resource(cluster)


def marker_resource(host: str) -> Resource:
    """A cluster without endpoints: only its existence is asked for, by the Lua of the public listener."""
    return _resource(cluster_pb2.Cluster(name=MARKER + host, type=cluster_pb2.Cluster.STATIC))


def _endpoint(address: Address) -> address_pb2.Address:
    wire = address_pb2.Address()
    if address.socket:
        wire.pipe.path = address.socket
    else:
        wire.socket_address.address, wire.socket_address.port_value = address.ip, address.port
    return wire


def _reach_internal_listener(cluster: cluster_pb2.Cluster) -> None:
    """The second priority needs this transport; it carries plain sockets as well."""
    inner = internal_upstream_pb2.InternalUpstreamTransport()
    inner.transport_socket.name = "envoy.transport_sockets.raw_buffer"
    inner.transport_socket.typed_config.Pack(raw_buffer_pb2.RawBuffer())
    cluster.transport_socket.name = "envoy.transport_sockets.internal_upstream"
    cluster.transport_socket.typed_config.Pack(inner)


def _set_limits(cluster: cluster_pb2.Cluster) -> None:
    limits = cluster.circuit_breakers.thresholds.add()
    for name in ("max_connections", "max_pending_requests", "max_requests", "max_retries"):
        getattr(limits, name).value = _LIMIT
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.common_http_protocol_options.idle_timeout.seconds = _IDLE_S
    options.explicit_http_config.http_protocol_options.SetInParent()
    _keep_token_from_app(options)
    cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].Pack(options)


def _keep_token_from_app(options: http_protocol_options_pb2.HttpProtocolOptions) -> None:
    mutation = header_mutation_pb2.HeaderMutation()
    mutation.mutations.request_mutations.add().remove = HEADER
    filters = (
        ("envoy.filters.http.header_mutation", mutation),
        ("envoy.filters.http.upstream_codec", upstream_codec_pb2.UpstreamCodec()),
    )
    for name, config in filters:
        options.http_filters.add(name=name).typed_config.Pack(config)


def _resource(cluster: cluster_pb2.Cluster) -> Resource:
    body = any_pb2.Any(
        type_url="type.googleapis.com/" + cluster.DESCRIPTOR.full_name,
        value=cluster.SerializeToString(deterministic=True),
    )
    return Resource(cluster.name, hashlib.sha256(body.value).hexdigest()[:16], body)
