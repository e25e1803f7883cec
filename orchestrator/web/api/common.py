"""What the endpoints share: bodies that are read with a limit, Spaces that are found with the caller's rights, and
the small checks that turn odd input into a sentence instead of a crash.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote

from fastapi import Depends, Request

from orchestrator.domain.names import CommitSha, SpaceName
from orchestrator.domain.space import Space
from orchestrator.errors import Invalid, Missing
from orchestrator.web import auth
from orchestrator.web.context import Context, context_of

_HALF = re.compile("[\ud800-\udfff\0]")

Tools = Annotated[Context, Depends(context_of)]


def _find(request: Request, owner: str, name: str) -> tuple[Space | None, auth.Caller | None, str]:
    caller = auth.identify(request)
    owner, name = unquote(owner), unquote(name)
    usable = len(owner) <= 96 and len(name) <= 96 and not _HALF.search(owner + name)
    space = context_of(request).store.find_space(SpaceName(owner, name)) if usable else None
    return space, caller, f"{owner}/{name}"


def readable(request: Request, owner: str, name: str) -> Space:
    """The Space of the address, if the caller may see it."""
    return auth.visible(*_find(request, owner, name))


def writable(request: Request, owner: str, name: str) -> Space:
    """The Space of the address, if the caller may change it."""
    return auth.changeable(*_find(request, owner, name))


Readable = Annotated[Space, Depends(readable)]
Writable = Annotated[Space, Depends(writable)]


async def json_body(request: Request) -> dict[str, Any]:
    """The JSON object in the body; an empty body is an empty object."""
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw, parse_constant=_no_constant)
        checked = _object(value)
    except (ValueError, RecursionError) as error:
        raise Invalid("The body must be a JSON object in UTF-8.") from error
    return checked


Body = Annotated[dict[str, Any], Depends(json_body)]


async def form_or_json(request: Request) -> dict[str, list[str]]:
    """Form fields, or a JSON object of texts and lists of texts; some clients send the one, some the other."""
    if request.headers.get("content-type", "").startswith("application/json"):
        values = await json_body(request)
        return {k: [str(i) for i in (v if isinstance(v, list) else [v])] for k, v in values.items()}
    raw = await request.body()
    try:
        return parse_qs(raw.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=10_000)
    except ValueError as error:
        raise Invalid("The form has too many fields.") from error


Form = Annotated[dict[str, list[str]], Depends(form_or_json)]


def _no_constant(text: str) -> float:
    raise ValueError(text)


def _object(value: object) -> dict[str, Any]:
    """`value`, if it is an object whose texts the database can hold."""
    if not isinstance(value, dict):
        raise ValueError("no object")
    stack: list[object] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str) and _HALF.search(item):
            raise ValueError("half a character or a NUL byte")
        if isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            stack += item
    return value


def text(body: Mapping[str, Any], key: str, default: str = "", *, limit: int = 1000) -> str:
    """A text of the body."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Invalid(f"`{key}` must be a text.")
    if len(value) > limit:
        raise Invalid(f"`{key}` is longer than {limit} characters.")
    return value


def whole(body: Mapping[str, Any], key: str) -> int | None:
    """A whole number of the body, of a size that the database can hold."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 53:
        raise Invalid(f"`{key}` must be a whole number.")
    return value


def flag(value: object) -> bool:
    """A boolean as any client writes it: true, "true", "True", "1"."""
    return value is True or (isinstance(value, str) and value.lower() in ("true", "1"))


def page_size(request: Request, *, default: int, most: int) -> int:
    """The parameter `limit`, within its bounds."""
    given = request.query_params.get("limit", "")
    return min(int(given), most) if given.isdecimal() and 0 < len(given) < 10 and int(given) > 0 else default


def page_start(request: Request, key: str) -> int:
    """A position in a list, as an earlier answer's link gave it."""
    given = request.query_params.get(key, "0")
    if not given.isdecimal() or len(given) > 9:
        raise Invalid(f"`{key}` must come from the link of an earlier page.")
    return int(given)


def resolved(tools: Context, space: Space, revision: str) -> CommitSha:
    """The commit that a revision of the address names; raises Missing of kind revision."""
    revision = unquote(revision)
    sha = None if _HALF.search(revision) else tools.repositories.resolve(space.id, revision)
    if sha is None:
        raise Missing(f"{space.full_name} has no revision {revision[:100]!r}.", "revision")
    return sha
