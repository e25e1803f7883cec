"""Envoy's two report streams (load reports and the byte log), taken apart and written into the activity book.

The list of clusters is asked for once and never changed: changing it would reset the counts of all others.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.load_stats.v3 import lrs_pb2

from orchestrator.gateway import metrics
from orchestrator.gateway.activity import ActivityBook
from orchestrator.gateway.clusters import host_of
from orchestrator.gateway.hosts import space_host

Clock = Callable[[], float]


class Reports:
    """The gRPC services that take Envoy's reports."""

    def __init__(self, book: ActivityBook, *, spaces_domain: str, interval_s: float, clock: Clock = time.time) -> None:
        self._book, self._clock = book, clock
        self._spaces_domain = spaces_domain
        self._interval_s = interval_s

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        loads = grpc.stream_stream_rpc_method_handler(
            self._loads, lrs_pb2.LoadStatsRequest.FromString, lrs_pb2.LoadStatsResponse.SerializeToString
        )
        entries = grpc.stream_unary_rpc_method_handler(
            self._entries,
            als_pb2.StreamAccessLogsMessage.FromString,
            als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        load_service = "envoy.service.load_stats.v3.LoadReportingService"
        log_service = "envoy.service.accesslog.v3.AccessLogService"
        return (
            grpc.method_handlers_generic_handler(load_service, {"StreamLoadStats": loads}),
            grpc.method_handlers_generic_handler(log_service, {"StreamAccessLogs": entries}),
        )

    async def _loads(
        self, requests: AsyncIterator[lrs_pb2.LoadStatsRequest], context: Any
    ) -> AsyncIterator[lrs_pb2.LoadStatsResponse]:
        asked = False
        async for request in requests:
            self.take_loads(request)
            if not asked:
                asked = True
                wanted = lrs_pb2.LoadStatsResponse(send_all_clusters=True)
                wanted.load_reporting_interval.FromMilliseconds(int(self._interval_s * 1000))
                yield wanted

    async def _entries(
        self, messages: AsyncIterator[als_pb2.StreamAccessLogsMessage], context: Any
    ) -> als_pb2.StreamAccessLogsResponse:
        async for message in messages:
            self.take_entries(message)
        return als_pb2.StreamAccessLogsResponse()

    def take_loads(self, report: lrs_pb2.LoadStatsRequest) -> None:
        """Write one load report into the book."""
        now = self._clock()
        for host, issued, in_progress in _loads_by_host(report):
            self._book.load(host, issued=issued, in_progress=in_progress, now=now)
            metrics.IN_PROGRESS.labels(host).set(in_progress)
            if issued:
                metrics.REQUESTS.labels(host).inc(issued)

    def take_entries(self, message: als_pb2.StreamAccessLogsMessage) -> None:
        """Write one batch of the byte log into the book. Streams to our own pages keep no Space awake."""
        now = self._clock()
        for entry in message.http_logs.log_entry:
            common = entry.common_properties
            host = space_host(entry.request.authority, self._spaces_domain)
            if host is None or common.upstream_cluster == "api":
                continue
            total = entry.request.request_body_bytes + entry.response.response_body_bytes
            self._book.stream(common.stream_id, host, total, now)


def _loads_by_host(report: lrs_pb2.LoadStatsRequest) -> Iterator[tuple[str, int, int]]:
    for cluster in report.cluster_stats:
        host = host_of(cluster.cluster_name)
        if host is not None:
            localities = cluster.upstream_locality_stats
            issued = sum(locality.total_issued_requests for locality in localities)
            yield host, issued, sum(locality.total_requests_in_progress for locality in localities)
