"""JSON answers that cannot fail, whatever a repository holds, and the links and addresses in them."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import JSONResponse

from orchestrator.web.context import context_of

HOST = re.compile(r"[A-Za-z0-9._\-]{1,255}(:[0-9]{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:[0-9]{1,5})?")
"""What a Host header may be."""
_DEPTH_MAX = 20


class Json(JSONResponse):
    """JSON in UTF-8. Half characters, which UTF-8 cannot hold, become question marks."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
        return text.encode("utf-8", "replace")


def plain(value: Any, depth: int = 0) -> Any:
    """Front matter as JSON can say it: string keys, no NaN, no dates, no endless nesting."""
    if depth > _DEPTH_MAX:
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def base_url(request: Request) -> str:
    """Our address as the caller wrote it: clients insist that links name the host that they asked."""
    host = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    if not HOST.fullmatch(host):
        return context_of(request).settings.public_url
    return f"{scheme(request)}://{host}"


def scheme(request: Request) -> str:
    """http, or https where a proxy in front says so."""
    return "https" if request.headers.get("x-forwarded-proto", "").strip().lower() == "https" else "http"


def next_link(request: Request, **changes: str | int) -> dict[str, str]:
    """`Link` header to the next page: the same address with some parameters changed."""
    parameters = [(key, value) for key, value in request.query_params.multi_items() if key not in changes]
    query = urlencode([*parameters, *((key, str(value)) for key, value in changes.items())])
    path = request.scope["raw_path"].decode("ascii", "replace").partition("?")[0]
    return {"Link": f'<{base_url(request)}{path}?{query}>; rel="next"'}
