"""The outermost layer of the web app: what every request and every answer has in common.

It refuses addresses that nothing of ours can mean (NUL bytes, endless paths), limits bodies before anything reads
them, keeps `%2F` inside a segment of a path, names each request, counts and times it, and sets the headers that keep
our pages from being framed or made to run what they do not hold. It must never read a body itself.
"""

import re
import time
import uuid
from urllib.parse import unquote

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import DormouseError, Invalid
from orchestrator.metrics import REQUEST_BUCKETS
from orchestrator.web import errors
from orchestrator.web.auth import GIT_BODY
from orchestrator.web.responses import HOST

log = structlog.get_logger()

BODY_MAX = 1 << 20
PATH_MAX = 8192
_REQUEST_ID = re.compile(r"[A-Za-z0-9._=;:\-]{1,120}")
# Paths below these carry revisions and file names, whose slashes come encoded.
_ENCODED = re.compile(r"/api/spaces/|/spaces/[^/]+/[^/]+/resolve/")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self' {apps}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_REQUESTS = Counter("dormouse_http_requests_total", "Requests to pages and API.", ["method", "route", "status"])
_SECONDS = Histogram(
    "dormouse_http_request_seconds", "Time to the first byte of the answer.", ["route"], buckets=REQUEST_BUCKETS
)


class Guard:
    """ASGI middleware; `apps_domain` is the domain of the Spaces, which our pages show in frames."""

    def __init__(self, app: ASGIApp, *, apps_domain: str) -> None:
        self._app = app
        apps = f"http://*.{apps_domain}:* https://*.{apps_domain}:*"
        self._policy = _PAGE_POLICY.format(apps=apps)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, started = time.monotonic(), False
        headers = Headers(scope=scope)
        request_id = _request_id(headers)

        async def finish(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _count(scope, message["status"], time.monotonic() - began)
                self._dress(MutableHeaders(scope=message), request_id)
            await send(message)

        try:
            _check_address(scope, headers)
            limit = None if GIT_BODY.fullmatch(scope["path"]) else BODY_MAX
            if limit is not None:
                _check_length(headers, limit)
        except DormouseError as error:
            await errors.answer(Request(scope), error)(scope, receive, finish)
            return
        _keep_encoded_slashes(scope)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive if limit is None else _limited(receive, limit), finish)
            except Exception as fault:
                # Here and not further out, so that this answer is dressed like every other.
                response = errors.broken(Request(scope), fault)
                if started:
                    raise
                await response(scope, receive, finish)

    def _dress(self, headers: MutableHeaders, request_id: str) -> None:
        headers["X-Request-Id"] = request_id
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Referrer-Policy", "same-origin")
        headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        is_page = headers.get("content-type", "").startswith("text/html")
        nothing = "default-src 'none'; frame-ancestors 'none'; sandbox"
        headers.setdefault("Content-Security-Policy", self._policy if is_page else nothing)
        if is_page:
            headers.setdefault("Cache-Control", "no-store")


def _request_id(headers: Headers) -> str:
    """The caller's own id where it has one, so that both sides' logs agree."""
    given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _check_address(scope: Scope, headers: Headers) -> None:
    raw = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    if len(raw) > PATH_MAX or len(query) > PATH_MAX:
        raise Invalid(f"This address is longer than {PATH_MAX} bytes.")
    if b"%00" in raw or b"%00" in query or "\0" in scope["path"]:
        raise Invalid("An address cannot hold a NUL byte.")
    if not HOST.fullmatch(headers.get("host", "")):
        raise Invalid("The Host header is no host name.")


def _check_length(headers: Headers, limit: int) -> None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or len(length) > 18:
        raise Invalid("The Content-Length header is no number.")
    if int(length) > limit:
        raise errors.TooLarge(f"This body is too large: {limit} bytes is the most that this address takes.")


def _limited(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > limit:
                raise errors.TooLarge(f"This body is too large: {limit} bytes is the most that this address takes.")
        return message

    return counted


def _keep_encoded_slashes(scope: Scope) -> None:
    """Route by segments as they were sent: `refs%2Fpr%2F1` stays one. Handlers decode what they are given."""
    raw = scope.get("raw_path")
    if not raw or not _ENCODED.match(scope["path"]):
        return
    segments = (unquote(part) for part in raw.partition(b"?")[0].decode("ascii", "replace").split("/"))
    scope["path"] = "/".join(segment.replace("%", "%25").replace("/", "%2F") for segment in segments)


def _count(scope: Scope, status: int, took_s: float) -> None:
    route = getattr(scope.get("route"), "path", "none")
    _REQUESTS.labels(scope["method"] if len(scope["method"]) < 8 else "other", route, str(status)).inc()
    _SECONDS.labels(route).observe(took_s)
