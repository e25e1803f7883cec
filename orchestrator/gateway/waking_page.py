"""What a visitor gets when the app itself cannot answer yet or at all: pages for browsers, JSON for everything else.

The pages are self-contained (no other host, no file of ours), because they are shown on the Space's own host name,
also inside a frame, and also while the rest of Dormouse is away. Scripts and styles carry a nonce; the policy allows
nothing else. Texts come from authors, so the templates escape everything.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import jinja2

from orchestrator.gateway.control import WakeAnswer

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("orchestrator.gateway", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_CODE = re.compile(r"`([^`\n]+)`")
# What every other part is between backticks.
_TEMPLATES.filters["spans"] = _CODE.split
_TEMPLATES.globals["home"] = ""
_HEADINGS = {
    "PAUSED": "This Space is paused",
    "BUILD_ERROR": "This Space could not be built",
    "RUNTIME_ERROR": "This Space could not start",
    "CONFIG_ERROR": "This Space's configuration cannot be used",
    "NO_APP_FILE": "This Space has no app yet",
}
WAITING = {
    "BUILDING": "Building the app",
    "RUNNING_BUILDING": "Building the app",
    "APP_STARTING": "Starting the app",
    "RUNNING_APP_STARTING": "Starting the app",
    "RUNNING": "Almost there",
    "SLEEPING": "Waking up",
}


@dataclass(frozen=True)
class Reply:
    """An HTTP answer of our own."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


def show_way_home(address: str) -> None:
    """Address of Dormouse's own pages, for visitors who came to the wrong place; said once, at the start."""
    _TEMPLATES.globals["home"] = address


def waking(answer: WakeAnswer | None, host: str) -> Reply:
    """The page that shows the wake and turns into the app. `answer` is None while the control plane is away."""
    answer = answer or WakeAnswer(answer="wait", message="Waiting for Dormouse itself to answer.")
    phase = WAITING.get(answer.stage, "Waking up")
    wait = answer.retry_after_s
    words = {"labels": WAITING, "headings": _HEADINGS}
    return _page("waking.html", 503, answer, retry_after_s=wait, name=_name(answer, host), phase=phase, **words)


def explain(answer: WakeAnswer, host: str, *, browser: bool) -> Reply:
    """The Space exists, but waiting will not help: say what is wrong and who can mend it."""
    if not browser:
        data = {"error": answer.message or _heading(answer), "stage": answer.stage, "space": answer.space}
        where = {"file": answer.file, "line": answer.line} if answer.file else {}
        return _json(503, {**data, **where, "page": answer.page}, retry_after_s=answer.retry_after_s)
    return _page(
        "problem.html",
        503,
        answer,
        retry_after_s=answer.retry_after_s,
        name=_name(answer, host),
        heading=_heading(answer),
    )


def missing(host: str, *, browser: bool) -> Reply:
    """No such Space, or none that this visitor may know of: both look the same."""
    if not browser:
        reply = _json(404, {"error": "There is no Space at this address."})
        return Reply(404, reply.body, {**reply.headers, "x-error-code": "RepoNotFound"})
    reply = _page("missing.html", 404, WakeAnswer(answer="missing"), name=host)
    return Reply(404, reply.body, {**reply.headers, "x-error-code": "RepoNotFound"})


def busy(answer: WakeAnswer | None, *, full: bool) -> Reply:
    """Held for as long as allowed, or too many are held already."""
    why = "Too many requests are waiting for this Space" if full else "This Space has not started in time"
    stage = answer.stage if answer and answer.stage else "UNKNOWN"
    wait = answer.retry_after_s if answer else 2
    data = {"error": f"{why}; try again in {wait} s.", "stage": stage, "space": answer.space if answer else ""}
    return _json(503, {**data, "message": answer.message if answer else ""}, retry_after_s=wait)


def _heading(answer: WakeAnswer) -> str:
    return _HEADINGS.get(answer.stage, "This Space is not available")


def _name(answer: WakeAnswer, host: str) -> str:
    return answer.title or answer.space or host


def _json(status: int, data: Mapping[str, object], *, retry_after_s: int = 0) -> Reply:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    if retry_after_s:
        headers["retry-after"] = str(retry_after_s)
    return Reply(status, json.dumps(data), headers)


def _page(template: str, status: int, answer: WakeAnswer, *, retry_after_s: int = 0, **values: object) -> Reply:
    nonce = secrets.token_urlsafe(12)
    body = _TEMPLATES.get_template(template).render(answer=answer, nonce=nonce, **values)
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
    headers = {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "content-security-policy": f"{policy}; img-src data:; base-uri 'none'; form-action 'none'",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-robots-tag": "noindex",
    }
    if retry_after_s:
        headers["retry-after"] = str(retry_after_s)
    return Reply(status, body, headers)
