"""Envoy's question about each held request (`ext_authz`, gRPC), translated to and from the holder's words.

Every way out of `check` is an answer: an exception here would count as "agent away" and let the request through.
"""

from typing import Any, Protocol

import grpc
import structlog
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2

from orchestrator.domain.credentials import COOKIE, credentials
from orchestrator.gateway import waking_page
from orchestrator.gateway.envoy_routes import ADMITTED, HELD_HEADER
from orchestrator.gateway.hold import Verdict, Visit
from orchestrator.gateway.hosts import space_host
from orchestrator.gateway.waking_page import Reply

_PATH_MAX = 500
_DOCUMENTS = ("", "document", "iframe", "frame")
log = structlog.get_logger()


class Decides(Protocol):
    async def decide(self, visit: Visit) -> Verdict: ...


def is_navigation(method: str, headers: dict[str, str]) -> bool:
    """Whether a browser opens a page, rather than fetching something for one that is open."""
    wants_page = method == "GET" and "text/html" in headers.get("accept", "").lower()
    return wants_page and headers.get("sec-fetch-dest", "").lower() in _DOCUMENTS and "upgrade" not in headers


class Authorization:
    """The gRPC service that Envoy's hold listener asks."""

    def __init__(self, holder: Decides, spaces_domain: str) -> None:
        self._holder = holder
        self._spaces_domain = spaces_domain

    def handler(self) -> grpc.GenericRpcHandler:
        method = grpc.unary_unary_rpc_method_handler(
            self.check,
            external_auth_pb2.CheckRequest.FromString,
            external_auth_pb2.CheckResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method})

    async def check(
        self, request: external_auth_pb2.CheckRequest, context: Any = None
    ) -> external_auth_pb2.CheckResponse:
        """Answer when it is decided what becomes of the request."""
        http = request.attributes.request.http
        visit = self._visit(http)
        try:
            verdict = await self._holder.decide(visit) if visit else _nowhere(http)
        except Exception:
            log.exception("hold_failed", host=http.host[:255])
            verdict = Verdict("failed", waking_page.busy(None, full=False))
        cookie = self._cookie(http, visit) if verdict.signed and visit else ""
        return _deny(verdict.reply, cookie) if verdict.reply else _allow(verdict, cookie)

    def _visit(self, http: attribute_context_pb2.AttributeContext.HttpRequest) -> Visit | None:
        host = space_host(http.host, self._spaces_domain)
        if host is None:
            return None
        # Queries may carry tokens: they are read here, and go no further.
        path = http.path.partition("?")[0].partition("#")[0][:_PATH_MAX] if http.path.startswith("/") else "/"
        headers = dict(http.headers)
        shown = credentials(headers, http.path)
        return Visit(host, path, http.method, is_navigation(http.method, headers), shown)

    def _cookie(self, http: attribute_context_pb2.AttributeContext.HttpRequest, visit: Visit) -> str:
        """The signed token of the address as a cookie of the Space's host, for the requests that follow.

        Dormouse's pages show the app in a frame. Where they are another site to the browser, only a cookie that says
        `None` is kept there, which has to be secure; `Partitioned` keeps it to frames of our own pages.
        """
        framed = http.headers.get("sec-fetch-dest", "") in ("iframe", "frame")
        secure = visit.host.endswith(".localhost")
        reach = "SameSite=None; Secure; Partitioned" if framed and secure else "SameSite=Lax"
        return f"{COOKIE}={visit.credentials.signed}; Path=/; HttpOnly; {reach}"


def _nowhere(http: attribute_context_pb2.AttributeContext.HttpRequest) -> Verdict:
    browser = is_navigation(http.method, dict(http.headers))
    return Verdict("missing", waking_page.missing(http.host[:255], browser=browser))


def _allow(verdict: Verdict, cookie: str) -> external_auth_pb2.CheckResponse:
    """Without a changed header the cluster would not be chosen anew."""
    response = external_auth_pb2.CheckResponse()
    response.status.code = grpc.StatusCode.OK.value[0]
    response.ok_response.headers.append(_header(HELD_HEADER, ADMITTED if verdict.admitted else "1"))
    if cookie:
        response.ok_response.response_headers_to_add.append(_cookie_header(cookie))
    return response


def _deny(reply: Reply, cookie: str) -> external_auth_pb2.CheckResponse:
    response = external_auth_pb2.CheckResponse()
    response.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
    response.denied_response.status.code = reply.status
    response.denied_response.body = reply.body
    response.denied_response.headers.extend(_header(name, value) for name, value in reply.headers.items())
    if cookie:
        response.denied_response.headers.append(_cookie_header(cookie))
    return response


def _cookie_header(cookie: str) -> base_pb2.HeaderValueOption:
    """Beside the app's own cookies, never instead of them."""
    action = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key="set-cookie", value=cookie), append_action=action)


def _header(name: str, value: str) -> base_pb2.HeaderValueOption:
    action = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value), append_action=action)
