"""From a recipe and the requirement files to a plan: exactly what the resolver is asked for, and what was left out.

A plan holds no choice any more and does no I/O: equal plans for an equal Python give equal environments, so the plan's
text is the key under which a resolution is remembered. What the Hub preinstalls is added only where the app's files
import it, which keeps environments small and existing Spaces working.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from packaging.utils import canonicalize_name

from builder.domain.detect import Recipe
from builder.domain.problems import CONFIG_ERROR, Refusal, quoted
from builder.domain.requirements import Line, Requirements, read_requirements
from builder.domain.source_scan import imported_packages
from builder.domain.tree import Listing, ReadFile

PREINSTALLED = {
    "datasets": "datasets",
    "huggingface_hub": "huggingface-hub",
    "requests": "requests",
    "spaces": "spaces",
}
"""Import name -> package: what the Hub's images hold beside the framework."""
SCANNED_FILES_MAX = 200
SCANNED_BYTES_MAX = 4 << 20

_SERVER = ("uvicorn", "httptools", "websockets")
_OAUTH_WORDS = frozenset(("LoginButton", "OAuthProfile", "OAuthToken"))
_ASGI_PACKAGES = ("fastapi", "starlette", "quart", "litestar", "blacksheep")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an environment is made of. Empty for static."""

    requirements: tuple[str, ...] = ()
    """Lines for the resolver: the platform's own first, then the author's in their order."""
    constraints: tuple[str, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    """(option of the resolver, address) pairs: indexes of the author's choosing."""
    prereleases: bool = False
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """package -> hashes, one of which its file must have."""
    python: str | None = None
    """Wanted Python, 3.x or 3.x.y; None takes the installation's default."""
    foreign: bool = False
    """Addresses of the author's choosing are fetched, so the whole work belongs into the sandbox."""
    warnings: tuple[str, ...] = ()

    def text(self) -> str:
        """Everything that decides the resolution, for people and as a key. The Python is named by the engine."""
        hashes = [f"# {name} {' '.join(sorted(values))}" for name, values in sorted(self.hashes.items())]
        places = [f"{option} {address}" for option, address in self.places]
        constraints = [f"# constraint {line}" for line in self.constraints]
        pre = ["--pre"] if self.prereleases else []
        return "\n".join([*self.requirements, *constraints, *places, *pre, *hashes]) + "\n"


def make_plan(recipe: Recipe, files: Listing, read: ReadFile) -> Plan | Refusal:
    """The plan for this recipe, or the line of a requirement file that cannot be honoured."""
    ignored = _ignored_files(recipe, files)
    if isinstance(ignored, Refusal):
        return ignored
    if recipe.sdk == "static":
        return Plan(warnings=ignored)
    wanted = read_requirements(files, read, _requirement_files(files))
    if isinstance(wanted, Refusal):
        return wanted
    if not wanted.lines and "pyproject.toml" in files and "requirements.txt" not in files:
        wanted = _from_pyproject(files, read, wanted)
        if isinstance(wanted, Refusal):
            return wanted
    if conflict := _conflict(recipe, wanted):
        return conflict
    return _assemble(recipe, wanted, _imports(files, read), ignored)


def _requirement_files(files: Listing) -> tuple[str, ...]:
    return tuple(path for path in ("pre-requirements.txt", "requirements.txt") if path in files)


def _ignored_files(recipe: Recipe, files: Listing) -> tuple[str, ...] | Refusal:
    """Warnings about files that other engines would use; a refusal where the app cannot do without one."""
    warnings: list[str] = []
    if "packages.txt" in files:
        warnings.append(
            "packages.txt asks for system packages. They cannot be installed here; the app sees those of the machine. "
            "Prefer Python packages that bring their libraries, or push to an installation with a container engine."
        )
    if "requirements.txt" in files or recipe.sdk == "static":
        return tuple(warnings)
    conda = next((path for path in ("environment.yml", "environment.yaml") if path in files), None)
    if conda:
        message = f"{conda} (conda) cannot be used here; write the Python packages into requirements.txt."
        return Refusal(stage=CONFIG_ERROR, code="conda", message=message, file=conda, line=1)
    if "uv.lock" in files:
        warnings.append("uv.lock is not read; the dependencies come from pyproject.toml, resolved anew.")
    if "Pipfile" in files:
        warnings.append("Pipfile is not read; write the packages into requirements.txt.")
    return tuple(warnings)


def _from_pyproject(files: Listing, read: ReadFile, wanted: Requirements) -> Requirements | Refusal:
    """Dependencies of pyproject.toml, as if they stood in requirements.txt."""
    try:
        project = tomllib.loads(read("pyproject.toml")[: 256 << 10].decode()).get("project", {})
        dependencies = [str(item) for item in project.get("dependencies", [])]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120]
        message = f"pyproject.toml cannot be read ({reason}). Correct it, or write requirements.txt."
        return Refusal(stage=CONFIG_ERROR, code="bad-pyproject", message=message, file="pyproject.toml")
    text = "\n".join(line.replace("\n", " ") for line in dependencies if not line.lstrip().startswith("-"))
    path = "pyproject.toml"
    found = read_requirements(files, lambda _: text.encode(), (path,))
    if isinstance(found, Refusal):
        return replace(found, line=None)
    return replace(found, warnings=(*wanted.warnings, *found.warnings))


def _conflict(recipe: Recipe, wanted: Requirements) -> Refusal | None:
    """`sdk_version` against a requirement of the same package: say it before the resolver does."""
    if recipe.sdk_version is None:
        return None
    for line in wanted.lines:
        parsed = line.parsed
        if line.name != recipe.sdk or parsed is None or parsed.url or parsed.marker:
            continue
        if not parsed.specifier.contains(recipe.sdk_version, prereleases=True):
            message = (
                f"{quoted(line.text)} contradicts `sdk_version: {recipe.sdk_version}` of README.md. "
                "Delete this line, or write the same version in both."
            )
            return Refusal(stage=CONFIG_ERROR, code="sdk-conflict", message=message, file=line.file, line=line.number)
    return None


def _imports(files: Listing, read: ReadFile) -> frozenset[str]:
    """Packages that the Python files of the repository import."""
    found: set[str] = set()
    budget = SCANNED_BYTES_MAX
    python_files = [path for path, entry in files.items() if path.endswith(".py") and entry.regular]
    for path in sorted(python_files, key=lambda path: (path.count("/"), path))[:SCANNED_FILES_MAX]:
        budget -= files[path].size
        if budget < 0:
            break
        found |= imported_packages(read(path))
    return frozenset(found)


def _assemble(recipe: Recipe, wanted: Requirements, imports: frozenset[str], warnings: tuple[str, ...]) -> Plan:
    listed = {line.name for line in wanted.lines if line.name}
    own = _platform(recipe, wanted.lines, listed, imports)
    foreign = bool(wanted.places) or any(line.foreign for line in wanted.lines)
    more = (_places_note(wanted.places),) if wanted.places else ()
    return Plan(
        requirements=(*own, *dict.fromkeys(line.text for line in wanted.lines)),
        constraints=tuple(dict.fromkeys(line.text for line in wanted.constraints)),
        places=wanted.places,
        prereleases=wanted.prereleases,
        hashes={line.name: line.hashes for line in wanted.lines if line.hashes and line.name},
        python=recipe.python_version,
        foreign=foreign,
        warnings=(*recipe.warnings, *warnings, *wanted.warnings, *_preload_note(recipe), *more),
    )


def _platform(recipe: Recipe, lines: tuple[Line, ...], listed: set[str], imports: frozenset[str]) -> list[str]:
    by_address = {line.name for line in lines if line.foreign and line.name}
    own: list[str] = []
    if recipe.sdk in ("gradio", "streamlit") and recipe.sdk not in by_address:
        own.append(_framework(recipe))
    if recipe.sdk == "asgi":
        own += [name for name in _SERVER if name not in by_address]
        if not listed & set(_ASGI_PACKAGES) and recipe.source.framework:
            own.append(recipe.source.framework)
        if "gradio" in recipe.source.imports and "gradio" not in listed:
            own.append("gradio")
    preinstalled = (package for name, package in PREINSTALLED.items() if name in imports)
    return own + [name for name in preinstalled if canonicalize_name(name) not in listed]


def _framework(recipe: Recipe) -> str:
    extras = []
    if recipe.sdk == "gradio":
        if recipe.card.flag("hf_oauth") or recipe.source.mentions & _OAUTH_WORDS:
            extras.append("oauth")
        if "mcp_server" in recipe.source.mentions:
            extras.append("mcp")
    suffix = f"[{','.join(extras)}]" if extras else ""
    version = f"=={recipe.sdk_version}" if recipe.sdk_version else ""
    return recipe.sdk + suffix + version


def _places_note(places: tuple[tuple[str, str], ...]) -> str:
    hosts = ", ".join(sorted({address.split("/")[2].rpartition("@")[2] for _, address in places}))
    return f"Packages are also looked for at {hosts}, as the requirement files say."


def _preload_note(recipe: Recipe) -> tuple[str, ...]:
    if not recipe.card.data.get("preload_from_hub"):
        return ()
    return ("preload_from_hub is not done at build time here; the app downloads the files when it first needs them.",)
