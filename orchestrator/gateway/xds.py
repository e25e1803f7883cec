"""The discovery server: delta ADS for clusters, driven by pushes, with a barrier that says when they are in force.

Why our own: one resource type, one client, and the one thing that matters here, "which pushes has Envoy taken over",
is what general control planes hide. Every push has a number; a stream remembers the last one that was sent and the
last one that was acknowledged. A push is in force when every connected Envoy has acknowledged it, and there is one.

Nothing is answered before `open` was called: an agent that does not know the routes yet would otherwise withdraw
what a running Envoy serves.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import structlog
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2

from orchestrator.gateway import metrics
from orchestrator.gateway.clusters import Resource
from orchestrator.gateway.pulse import Pulse
from orchestrator.gateway.routes import Push

CLUSTER_TYPE = "type.googleapis.com/" + cluster_pb2.Cluster.DESCRIPTOR.full_name
_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
log = structlog.get_logger()


class _Stream:
    """One connected Envoy."""

    def __init__(self) -> None:
        self.subscribed = False
        self.acked = -1
        self.outbox: asyncio.Queue[discovery_pb2.DeltaDiscoveryResponse | None] = asyncio.Queue()
        self.have: dict[str, str] = {}
        """Resource name -> version that this Envoy has acknowledged."""
        self.sent: dict[str, tuple[int, Push]] = {}
        """Nonce -> number and content of a push that was not answered yet."""

    def send(self, number: int, push: Push) -> None:
        nonce = str(number)
        self.sent[nonce] = (number, push)
        self.outbox.put_nowait(_response(nonce, push))
        metrics.PUSHES.inc()

    def answered(self, nonce: str, *, refused: bool) -> None:
        """A refusal counts as answered too: one bad resource must not keep all others from going ahead."""
        number, push = self.sent.pop(nonce, (self.acked, Push()))
        for name in push.remove:
            self.have.pop(name, None)
        if not refused:
            self.have.update({name: resource.version for name, resource in push.put.items()})
        self.acked = max(self.acked, number)


class DiscoveryServer:
    """Holds what every Envoy should have. `resources` is shared with the route table and only read here."""

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        self._resources = resources
        self._streams: set[_Stream] = set()
        self._open = asyncio.Event()
        self._number = 0
        self.changed = Pulse()
        """Beats after each answer of an Envoy, and when one comes or goes."""

    # --- the agent's side -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """The resources are complete from now on: answer."""
        self._open.set()

    def push(self, push: Push) -> int:
        """Send what differs to every Envoy; returns the number to compare with `acked`."""
        if push:
            self._number += 1
            for stream in self._streams:
                if stream.subscribed:
                    stream.send(self._number, push)
        return self._number

    def acked(self) -> int | None:
        """Every push up to this number is in force in every connected Envoy; None if none is connected."""
        return min((stream.acked for stream in self._streams), default=None)

    def in_force(self, name: str) -> bool:
        """Whether every connected Envoy, and at least one, has the resource of that name as it is now."""
        resource = self._resources.get(name)
        if resource is None or not self._streams:
            return False
        return all(stream.have.get(name) == resource.version for stream in self._streams)

    # --- Envoy's side -----------------------------------------------------------------------------------------------

    def handler(self) -> grpc.GenericRpcHandler:
        method = grpc.stream_stream_rpc_method_handler(
            self._delta,
            discovery_pb2.DeltaDiscoveryRequest.FromString,
            discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(_SERVICE, {"DeltaAggregatedResources": method})

    async def _delta(
        self, requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest], context: Any
    ) -> AsyncIterator[discovery_pb2.DeltaDiscoveryResponse]:
        await self._open.wait()
        stream = _Stream()
        self._streams.add(stream)
        self._tell()
        reader = asyncio.create_task(self._read(stream, requests))
        try:
            while (response := await stream.outbox.get()) is not None:
                yield response
        finally:
            reader.cancel()
            self._streams.discard(stream)
            self._tell()

    async def _read(self, stream: _Stream, requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest]) -> None:
        try:
            async for request in requests:
                if request.type_url != CLUSTER_TYPE:
                    self._nothing(stream, request)
                elif request.response_nonce:
                    self._answer(stream, request)
                    self._tell()
                elif not stream.subscribed:
                    self._subscribe(stream, request)
        except (grpc.RpcError, asyncio.CancelledError):
            pass
        finally:
            stream.outbox.put_nowait(None)

    def _subscribe(self, stream: _Stream, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """Send the difference to what this Envoy has kept from an earlier connection, even if it is nothing."""
        stream.subscribed = True
        stream.have = dict(request.initial_resource_versions)
        put = {n: r for n, r in self._resources.items() if stream.have.get(n) != r.version}
        gone = frozenset(name for name in stream.have if name not in self._resources)
        log.info("envoy_connected", kept=len(stream.have), pushed=len(put), withdrawn=len(gone))
        stream.send(self._number, Push(put, gone))

    def _answer(self, stream: _Stream, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        refused = bool(request.error_detail.message or request.error_detail.code)
        if refused:
            metrics.NACKS.inc()
            log.error("envoy_refused_push", reason=request.error_detail.message[:500])
        else:
            metrics.ACKS.inc()
        stream.answered(request.response_nonce, refused=refused)

    def _nothing(self, stream: _Stream, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """We offer clusters only; a first question for anything else gets an empty answer."""
        if not request.response_nonce:
            stream.outbox.put_nowait(
                discovery_pb2.DeltaDiscoveryResponse(type_url=request.type_url, nonce=f"none.{request.type_url}")
            )

    def _tell(self) -> None:
        metrics.ENVOYS.set(len(self._streams))
        self.changed.beat()


def _response(nonce: str, push: Push) -> discovery_pb2.DeltaDiscoveryResponse:
    added = [
        discovery_pb2.Resource(name=resource.name, version=resource.version, resource=resource.body)
        for resource in push.put.values()
    ]
    return discovery_pb2.DeltaDiscoveryResponse(
        type_url=CLUSTER_TYPE,
        resources=added,
        removed_resources=sorted(push.remove),
        nonce=nonce,
        system_version_info=nonce,
    )
