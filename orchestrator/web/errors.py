"""Errors as answers: the only place with status codes.

Three kinds of readers: the Hub's clients read `X-Error-Code` and `X-Error-Message` and a JSON object with `error`;
git prints a plain text body as `remote:` lines; a browser gets a page. A Space that the caller may not see answers
exactly like one that does not exist: 404 to a known caller, 401 to a stranger, `RepoNotFound` to both.
"""

import html
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response

from orchestrator.domain.lifecycle import ImpossibleTransition
from orchestrator.errors import (
    Conflict,
    DormouseError,
    Invalid,
    Missing,
    NotAllowed,
    Refused,
    Unauthenticated,
    Unavailable,
)
from orchestrator.web.responses import Json

log = structlog.get_logger()

ErrorPage = Callable[[Request, int, str], Response]
"""(request, status, message) -> a page. Blocks."""
BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105  the words that clients look for
_CODES = {"repo": "RepoNotFound", "revision": "RevisionNotFound", "entry": "EntryNotFound"}
_GIT_PATHS = ("/info/refs", "/git-upload-pack", "/git-receive-pack")


class TooLarge(Invalid):
    """The body is longer than the endpoint takes."""


class TooSlow(Invalid):
    """The body did not come within its time."""


class TooMany(Unavailable):
    """This caller does this too often."""


class BadToken(Unauthenticated):
    """Credentials were given and are wrong."""


class EntryMissing(Missing):
    """No such file in an existing revision. Clients remember that for the commit, so it is named."""

    def __init__(self, message: str, sha: str) -> None:
        super().__init__(message, "entry")
        self.sha = sha


class Busy(Conflict):
    """The Space is in a stage in which this cannot be done."""


_STATUS: tuple[tuple[type[DormouseError], int], ...] = (
    (TooLarge, 413),
    (TooSlow, 408),
    (Invalid, 400),
    (NotAllowed, 403),
    (Unauthenticated, 401),
    (Missing, 404),
    (Conflict, 409),
    (Refused, 400),
    (TooMany, 429),
    (Unavailable, 503),
)


def install_error_handlers(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(DormouseError, _dormouse_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, broken)


def answer(request: Request, error: DormouseError) -> Response:
    """The answer that tells `error` to whoever asked."""
    if isinstance(error, ImpossibleTransition):
        error = Busy(f"This cannot be done in the Space's present stage: {error}.")
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        log.error("request_failed", path=_path(request), error=repr(error))
        return _respond(request, 500, "Something in Dormouse is broken; its log says more.", {}, {})
    headers: dict[str, str] = {}
    body: dict[str, object] = {}
    if isinstance(error, Missing):
        headers["X-Error-Code"] = _CODES.get(error.kind, "NotFound")
        if error.kind == "repo" and getattr(request.state, "caller", None) is None:
            status = 401
    elif not isinstance(error, Unauthenticated):
        headers["X-Error-Code"] = type(error).__name__
    if isinstance(error, EntryMissing):
        headers["X-Repo-Commit"] = error.sha
    if isinstance(error, Conflict) and error.url:
        body["url"] = error.url
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    message = str(error)
    headers["X-Error-Message"] = BAD_TOKEN if isinstance(error, BadToken) else message
    return _respond(request, status, message, headers, body)


def _respond(request: Request, status: int, message: str, headers: dict[str, str], body: dict[str, object]) -> Response:
    headers.setdefault("X-Error-Message", message)
    headers["X-Error-Message"] = _header(headers["X-Error-Message"])
    path = _path(request)
    if path.endswith(_GIT_PATHS):
        if status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="Dormouse: the password is your token", charset="UTF-8"'
        return Response(message + "\n", status, headers, "text/plain; charset=utf-8")
    if path.startswith("/api/") or "/resolve/" in path or "text/html" not in request.headers.get("accept", ""):
        return Json({"error": message, **body}, status, headers)
    if status == 401 and request.method == "GET" and "X-Error-Code" not in headers:
        query = request.scope["query_string"].decode("latin-1")
        asked = f"{path}?{query}" if query else path
        return RedirectResponse(f"/login?next={quote(asked, safe='/')}", 303, headers)
    page: ErrorPage = getattr(request.app.state, "error_page", None) or _plain_page
    status = 404 if headers.get("X-Error-Code") == "RepoNotFound" else status
    try:
        response = page(request, status, message)
    except Exception as fault:
        # A page needs the database and the caller, and one of these may be what is wrong.
        log.warning("error_page_failed", error=repr(fault)[:300])
        response = _plain_page(request, status, message)
    response.headers.update(headers)
    return response


def _header(text: str) -> str:
    """Fit for a header: one line of ASCII, not endless."""
    return "".join(char if 32 <= ord(char) < 127 else "?" if ord(char) > 127 else " " for char in text[:800])


def _plain_page(request: Request, status: int, message: str) -> Response:
    """For an app that brings no page for errors."""
    title = HTTPStatus(status).phrase
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<main><h1>{html.escape(title)}</h1><p>{html.escape(message)}</p>"
        '<p><a href="/">All Spaces</a></p></main></html>'
    )
    return Response(text, status, media_type="text/html; charset=utf-8")


def _dormouse_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DormouseError)
    return answer(request, error)


def _http_error(request: Request, error: Exception) -> Response:
    """What the router itself refuses: no such path, or no such method on it."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _respond(request, 404, f"There is nothing at {_path(request)[:200]}.", {"X-Error-Code": "NotFound"}, {})
    if error.status_code == 405:
        message = f"{request.method} is not possible at {_path(request)[:200]}."
        return _respond(request, 405, message, {"X-Error-Code": "MethodNotAllowed", **(error.headers or {})}, {})
    return _respond(request, error.status_code, str(error.detail), dict(error.headers or {}), {})


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "malformed"}
    name = ".".join(str(part) for part in first["loc"][1:])[:100]
    return _respond(request, 400, f"{name or 'The request'}: {first['msg']}.", {"X-Error-Code": "Invalid"}, {})


def _disconnected(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


def broken(request: Request, error: Exception) -> Response:
    """The answer to a fault of ours; the log has the rest."""
    log.error("request_failed", path=_path(request), error=repr(error)[:500], exc_info=error)
    return _respond(request, 500, "Something in Dormouse is broken; its log says more.", {}, {})


def _path(request: Request) -> str:
    path: str = request.scope["path"]
    return path
