"""From the files of a commit to a recipe: what kind of app it is and how it starts.

The author's word comes first: `sdk` and `app_file` of the front matter are followed even where the files look
different. Only without them are the files asked, in the order of the table `_GUESSES`. What cannot run here becomes a
Refusal that says where and what to write instead.

Pure and quick: the orchestrator calls `examine` while a push waits, with readers for blobs of the bare repository.
"""

from dataclasses import dataclass, field

from builder.domain import source_scan
from builder.domain.card import README_BYTES_MAX, Card, read_card
from builder.domain.problems import CONFIG_ERROR, NO_APP_FILE, README, Refusal, quoted
from builder.domain.source_scan import Source
from builder.domain.tree import Kind, Listing, ReadFile

DEFAULT_PORT = 7860
PYTHON = "{python}"
"""Stands for the environment's interpreter in a command."""

_CANDIDATES = (
    "app.py",
    "streamlit_app.py",
    "main.py",
    "asgi.py",
    "server.py",
    "src/app.py",
    "src/main.py",
    "app/main.py",
    "demo.py",
)
_DEFAULT_FILES = {
    "gradio": ("app.py",),
    "streamlit": ("app.py", "streamlit_app.py", "src/streamlit_app.py"),
    "static": ("index.html",),
    "asgi": ("app.py", "main.py", "asgi.py", "server.py", "app/main.py", "src/main.py"),
}
_DOCKERFILES = ("Dockerfile", "dockerfile", "Containerfile")
_CONTAINER_ENGINE = (
    "This installation runs Spaces without a container engine, so a Dockerfile cannot be built here. Write "
    "`sdk: gradio`, `streamlit`, `asgi` or `static` in the front matter of README.md (a Python app that serves "
    "port 7860 by itself may use `sdk: gradio`), or push to an installation with a container engine."
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to make and start one app."""

    sdk: str
    """gradio, streamlit, asgi or static."""
    app_file: str
    command: tuple[str, ...]
    """Start command; `{python}` stands for the environment's interpreter. Empty for static."""
    why: str
    """What decided, for the build log."""
    source: Source = field(default_factory=Source)
    """What the app file says about itself; empty for static."""
    sdk_version: str | None = None
    python_version: str | None = None
    port: int = DEFAULT_PORT
    start_timeout_s: float | None = None
    card: Card = field(default_factory=Card)
    warnings: tuple[str, ...] = ()


def examine(files: Listing, read: ReadFile) -> tuple[Card, Recipe | Refusal]:
    """Read the front matter and detect: everything that can be said about a commit without building it."""
    readme = files.get(README)
    if readme is None:
        return Card(), detect(files, read, Card())
    if not readme.regular:
        message = f"README.md is a {readme.kind.value}; commit it as a regular file."
        return Card(), Refusal(stage=CONFIG_ERROR, code="readme-link", message=message, file=README)
    card = read_card(read(README)[:README_BYTES_MAX])
    if isinstance(card, list):
        return Card(), Refusal.of(card)
    return card, detect(files, read, card)


def detect(files: Listing, read: ReadFile, card: Card) -> Recipe | Refusal:
    """The recipe for these files, or why there is none."""
    sdk = card.text("sdk")
    if sdk == "docker":
        return _refuse("needs-container-engine", _CONTAINER_ENGINE, README, card.lines.get("sdk"))
    given = card.text("app_file")
    if given is not None and (refusal := _unusable(files, card, given)):
        return refusal
    if sdk is not None:
        return _by_sdk(files, read, card, sdk, given)
    if given is not None:
        return _by_file(files, read, card, given, f"README.md says app_file: {given}")
    return _by_looking(files, read, card)


def _refuse(code: str, message: str, file: str | None = None, line: int | None = None) -> Refusal:
    return Refusal(stage=CONFIG_ERROR, code=code, message=message, file=file, line=line)


def _missing(message: str, file: str | None = None, line: int | None = None) -> Refusal:
    return Refusal(stage=NO_APP_FILE, code="no-app-file", message=message, file=file, line=line)


def _unusable(files: Listing, card: Card, given: str) -> Refusal | None:
    line = card.lines.get("app_file")
    entry = files.get(given)
    if entry is not None and entry.regular:
        return None
    if entry is not None:
        message = f"The app file {quoted(given)} is a {entry.kind.value}; commit it as a regular file."
        return _refuse("app-file-link", message, README, line)
    link = next((path for path in _parents(given) if path in files and files[path].kind is not Kind.FILE), None)
    if link is not None:
        message = f"{quoted(link)} is a {files[link].kind.value}, so {quoted(given)} is not in this repository."
        return _refuse("app-file-link", f"{message} Commit the files themselves.", README, line)
    message = f"The app file {quoted(given)} is not in the repository. Add it, or correct `app_file` in README.md."
    return _missing(message, README, line)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _by_sdk(files: Listing, read: ReadFile, card: Card, sdk: str, given: str | None) -> Recipe | Refusal:
    why = f"README.md says sdk: {sdk}"
    if sdk == "static":
        return _static(files, card, given, why)
    app_file = given or next((path for path in _DEFAULT_FILES[sdk] if _regular(files, path)), None)
    if app_file is None:
        return _no_default(files, card, sdk)
    if not app_file.endswith(".py"):
        message = f"`app_file` must be a Python file for sdk {sdk}, not {quoted(app_file)}."
        return _refuse("app-file-kind", message, README, card.lines.get("app_file"))
    return _recipe(files, card, sdk, app_file, source=source_scan.scan(read(app_file)), why=why)


def _no_default(files: Listing, card: Card, sdk: str) -> Refusal:
    names = _DEFAULT_FILES[sdk]
    link = next((name for name in names if name in files), None)
    if link is not None:
        message = f"The app file {quoted(link)} is a {files[link].kind.value}; commit it as a regular file."
        return _refuse("app-file-link", message, link)
    message = f"There is no {names[0]}. Add it, or name the app's file with `app_file` in README.md."
    return _missing(message, README, card.lines.get("sdk"))


def _static(files: Listing, card: Card, given: str | None, why: str) -> Recipe | Refusal:
    page = given or "index.html"
    if not _regular(files, page):
        message = "There is no index.html. Add it, or name the first page with `app_file` in README.md."
        return _missing(message, README if card.present else None, card.lines.get("sdk"))
    warnings: tuple[str, ...] = ()
    if card.text("app_build_command"):
        warnings = (f"app_build_command is not run here; {page} is served as it was committed.",)
    return Recipe(sdk="static", app_file=page, command=(), why=why, card=card, warnings=warnings, start_timeout_s=None)


def _by_file(files: Listing, read: ReadFile, card: Card, path: str, why: str) -> Recipe | Refusal:
    if path.endswith((".html", ".htm")):
        return _static(files, card, path, why)
    source = source_scan.scan(read(path))
    sdk = _sdk_of(source, _listed(files, read))
    if sdk is None:
        message = (
            f"{quoted(path)} uses neither Gradio nor Streamlit, and no ASGI application was found in it. Write "
            "`sdk:` in the front matter of README.md: `gradio` also fits any app that serves port 7860 by itself."
        )
        return _refuse("unknown-kind", message, path)
    return _recipe(files, card, sdk, path, source=source, why=f"{why}, which looks like {sdk}")


def _by_looking(files: Listing, read: ReadFile, card: Card) -> Recipe | Refusal:
    dockerfile = next((name for name in _DOCKERFILES if name in files), None)
    if dockerfile is not None:
        return _refuse("needs-container-engine", _CONTAINER_ENGINE, dockerfile, 1)
    listed = _listed(files, read)
    found = [path for path in _CANDIDATES if _regular(files, path)]
    for path in found:
        source = source_scan.scan(read(path))
        if sdk := _sdk_of(source, listed):
            return _recipe(files, card, sdk, path, source=source, why=f"{path} looks like {sdk}")
    if _regular(files, "index.html"):
        return _static(files, card, None, "there is an index.html")
    if found:
        return _by_file(files, read, card, found[0], f"found {found[0]}")
    if link := next((path for path in ("app.py", "index.html") if path in files), None):
        message = f"The app file {quoted(link)} is a {files[link].kind.value}; commit it as a regular file."
        return _refuse("app-file-link", message, link)
    return _missing(
        "There is nothing to run: no app.py, main.py, streamlit_app.py or index.html. Add one of them, or name the "
        "app's file with `app_file` in the front matter of README.md."
    )


def _sdk_of(source: Source, listed: frozenset[str]) -> str | None:
    """The kind of a Python file: what it imports, then what the requirements name."""
    if "gradio" in source.imports:
        return "asgi" if source.asgi and not source.launches else "gradio"
    if "streamlit" in source.imports:
        return "streamlit"
    if source.asgi:
        return "asgi"
    return next((sdk for sdk in ("gradio", "streamlit") if sdk in listed and source.imports), None)


def _listed(files: Listing, read: ReadFile) -> frozenset[str]:
    if not _regular(files, "requirements.txt"):
        return frozenset()
    lines = read("requirements.txt")[:README_BYTES_MAX].decode("utf-8", "replace").lower().splitlines()
    return frozenset(name for name in ("gradio", "streamlit") if any(line.strip().startswith(name) for line in lines))


def _regular(files: Listing, path: str) -> bool:
    return path in files and files[path].regular


def _recipe(files: Listing, card: Card, sdk: str, app_file: str, *, source: Source, why: str) -> Recipe | Refusal:
    port = card.data.get("app_port")
    port = port if isinstance(port, int) else DEFAULT_PORT
    if sdk == "asgi" and source.asgi is None:
        message = (
            f"No ASGI application was found in {quoted(app_file)}. Define one at the top level of the file, "
            "for instance `app = FastAPI()`."
        )
        return _refuse("no-asgi-app", message, app_file)
    return Recipe(
        sdk=sdk,
        app_file=app_file,
        command=_command(files, sdk, app_file, source, port),
        why=why,
        source=source,
        sdk_version=card.text("sdk_version") if sdk in ("gradio", "streamlit") else None,
        python_version=card.text("python_version"),
        port=port,
        start_timeout_s=card.start_timeout_s,
        card=card,
    )


def _command(files: Listing, sdk: str, app_file: str, source: Source, port: int) -> tuple[str, ...]:
    # A name that begins with `-` must not be read as an option.
    safe = f"./{app_file}" if app_file.startswith("-") else app_file
    if sdk == "streamlit":
        return (PYTHON, "-m", "streamlit", "run", safe)
    if sdk != "asgi":
        return (PYTHON, safe)
    target, place = _module(files, app_file)
    return (PYTHON, "-m", "uvicorn", f"{target}:{source.asgi}", *place, "--host", "127.0.0.1", "--port", str(port))


def _module(files: Listing, app_file: str) -> tuple[str, tuple[str, ...]]:
    """Module name for uvicorn, and the folder to look in: a package is named in full, another folder is looked in."""
    folder, _, name = app_file.removesuffix(".py").rpartition("/")
    if not folder:
        return name, ()
    if f"{folder}/__init__.py" in files:
        return f"{folder}/{name}".replace("/", "."), ()
    return name, ("--app-dir", folder)
