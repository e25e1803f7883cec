"""What a Python file says about itself, found by reading it and never by running it.

The file is hostile: its size is bounded before it is parsed, and a text that the parser gives up on is simply a file
that says nothing. Nothing here recurses over the tree of the file.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

SOURCE_BYTES_MAX = 512 << 10

ASGI_CLASSES = {
    "FastAPI": "fastapi",
    "Starlette": "starlette",
    "Quart": "quart",
    "Litestar": "litestar",
    "Robyn": "robyn",
    "BlackSheep": "blacksheep",
}
_PREFERRED = ("app", "application", "asgi", "api", "server")
_ASGI_MAKERS = {"mount_gradio_app", "get_asgi_application", "http_app", "streamable_http_app", "sse_app"}
_IMPORT_LINE = re.compile(rb"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One Python file. `parsed` is False where it cannot be read as Python; the rest is empty then."""

    parsed: bool = False
    imports: frozenset[str] = frozenset()
    """Top-level names of imported packages, anywhere in the file."""
    asgi: str | None = None
    """Name of a module-level ASGI application."""
    framework: str | None = None
    """Package that the ASGI application comes from, where that is known."""
    launches: bool = False
    """The file serves by itself: it calls `.launch()` or `uvicorn.run()`."""
    mentions: frozenset[str] = frozenset()
    """Words of interest that occur in it."""


WORDS = ("mcp_server", "LoginButton", "OAuthProfile", "OAuthToken")


def imported_packages(raw: bytes) -> frozenset[str]:
    """Packages that the text imports, found line by line: fast, and good enough to decide what to preinstall."""
    return frozenset(match.group(1).decode() for match in _IMPORT_LINE.finditer(raw[:SOURCE_BYTES_MAX]))


def scan(raw: bytes) -> Source:
    mentions = frozenset(word for word in WORDS if word.encode() in raw)
    tree = _parse(raw)
    if tree is None:
        return Source(imports=imported_packages(raw), mentions=mentions)
    imports = frozenset(_imports(tree))
    asgi, framework = _asgi(tree)
    return Source(
        parsed=True,
        imports=imports,
        asgi=asgi,
        framework=framework if framework in imports else None,
        launches=any(_serves(node) for node in ast.walk(tree) if isinstance(node, ast.Call)),
        mentions=mentions,
    )


def _parse(raw: bytes) -> ast.Module | None:
    if len(raw) > SOURCE_BYTES_MAX:
        return None
    try:
        return ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _asgi(tree: ast.Module) -> tuple[str | None, str | None]:
    """The best module-level ASGI application: a preferred name first, else the first one."""
    found: dict[str, str | None] = {}
    for node in tree.body:
        for name, framework in _applications(node):
            found[name] = found.get(name) or framework
    best = next((name for name in _PREFERRED if name in found), next(iter(found), None))
    return best, found.get(best) if best else None


def _applications(node: ast.stmt) -> Iterator[tuple[str, str | None]]:
    if isinstance(node, ast.AsyncFunctionDef):
        names = [argument.arg.lstrip("_") for argument in node.args.args]
        if names == ["scope", "receive", "send"]:
            yield node.name, None
        return
    if isinstance(node, ast.Assign):
        targets: list[ast.expr] = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        return
    called = _called(node.value)
    if called in ASGI_CLASSES or called in _ASGI_MAKERS:
        yield from ((t.id, ASGI_CLASSES.get(called)) for t in targets if isinstance(t, ast.Name))


def _called(value: ast.expr | None) -> str:
    """The last name of `x.y.Name(...)`; empty for anything that is no call."""
    if not isinstance(value, ast.Call):
        return ""
    if isinstance(value.func, ast.Attribute):
        return value.func.attr
    return value.func.id if isinstance(value.func, ast.Name) else ""


def _serves(call: ast.Call) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    of_uvicorn = isinstance(function.value, ast.Name) and function.value.id in ("uvicorn", "hypercorn")
    return function.attr == "launch" or (function.attr == "run" and of_uvicorn)
