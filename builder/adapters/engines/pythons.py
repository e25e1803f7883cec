"""The Pythons of this machine, and the choice of one for an environment.

Finding them starts each one once, so it is done once per worker and again when a wanted one is missing. A system
Python is preferred, since every sandbox sees it anyway; shims of version managers are looked behind, because they
resolve to whatever their configuration says at the moment.
"""

import json
import os
import platform
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builder.adapters.control import Control
from builder.adapters.engines.uv import Uv
from builder.failures import BuildFailed

DOWNLOAD_TIMEOUT_S = 60.0
OLDEST_DEFAULT, NEWEST_DEFAULT = (3, 10), (3, 13)
_SYSTEM = ("/usr/bin/", "/usr/local/bin/")

Version = tuple[int, ...]


@dataclass(frozen=True)
class Python:
    version: str
    """x.y.z."""
    path: Path
    """The interpreter itself, outside of any virtual environment."""

    @property
    def parts(self) -> Version:
        return tuple(int(part) for part in self.version.split("."))

    @property
    def prefix(self) -> Path:
        return self.path.parent.parent

    @property
    def system(self) -> bool:
        return str(self.path).startswith(_SYSTEM)

    @property
    def cache_tag(self) -> str:
        return f"cpython-{self.parts[0]}{self.parts[1]}"


class Pythons:
    """Knows the installed Pythons; may be used from several threads."""

    def __init__(self, uv: Uv, folder: Path, *, cache: Path, downloads: bool) -> None:
        self._uv, self._folder, self._cache, self._downloads = uv, folder, cache, downloads
        self._lock = threading.Lock()
        self._known: tuple[Python, ...] = ()

    def choose(self, wanted: str | None, control: Control) -> Python:
        """The Python for `python_version`. Raises BuildFailed naming those that there are."""
        found = pick(self.installed(control), wanted)
        if found is None:
            found = pick(self.installed(control, again=True), wanted)
        if found is None and wanted and self._downloads and self._download(wanted, control):
            found = pick(self.installed(control, again=True), wanted)
        if found is None:
            raise _unavailable(wanted, self.installed(control))
        return found

    def installed(self, control: Control, *, again: bool = False) -> tuple[Python, ...]:
        """Pythons of this machine, newest first."""
        with self._lock:
            if again or not self._known or not all(python.path.exists() for python in self._known):
                self._known = self._find(control)
            return self._known

    def _find(self, control: Control) -> tuple[Python, ...]:
        argv = ["python", "list", "--only-installed", "--output-format", "json", "--no-python-downloads"]
        path = search_path(os.environ.get("PATH", ""), Path.home())
        more = {"PATH": path, "UV_PYTHON_INSTALL_DIR": str(self._folder)}
        done = self._uv.run(argv, control=control, cache=self._cache, more=more)
        return parse_list(done.out) if done.code == 0 else ()

    def _download(self, wanted: str, control: Control) -> bool:
        argv = ["python", "install", wanted, "--no-bin", "--install-dir", str(self._folder)]
        more = {"UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1"}
        done = self._uv.run(argv, control=control, cache=self._cache, more=more, timeout_s=DOWNLOAD_TIMEOUT_S)
        return done.code == 0


def parse_list(raw: bytes) -> tuple[Python, ...]:
    """uv's list of interpreters, without doubles."""
    found: dict[Path, Python] = {}
    for item in json.loads(raw or b"[]"):
        path = Path(item["path"])
        if item["implementation"] != "cpython" or item.get("variant", "default") != "default":
            continue
        if "shims" in path.parts:
            continue
        real = path.resolve()
        found.setdefault(real, Python(item["version"], real))
    return tuple(sorted(found.values(), key=lambda python: python.parts, reverse=True))


def pick(pythons: Iterable[Python], wanted: str | None) -> Python | None:
    """The best match: a system Python before others, then the newest."""
    if wanted is None:
        fitting = [python for python in pythons if OLDEST_DEFAULT <= python.parts[:2] <= NEWEST_DEFAULT]
        fitting = fitting or [python for python in pythons if python.parts[:2] >= OLDEST_DEFAULT]
    else:
        parts = tuple(int(part) for part in wanted.split("."))
        fitting = [python for python in pythons if python.parts[: len(parts)] == parts]
    return max(fitting, key=lambda python: (python.system, python.parts), default=None)


def search_path(path: str, home: Path) -> str:
    """PATH without shims, and with the interpreters that version managers keep."""
    folders = [part for part in path.split(os.pathsep) if part and "shims" not in part]
    managed = sorted(home.glob(".pyenv/versions/3*/bin")) if home.is_dir() else []
    return os.pathsep.join([*folders, "/usr/local/bin", "/usr/bin", *(str(folder) for folder in managed)])


def machine_tag() -> str:
    """Operating system, machine and C library: what wheels depend on besides the Python."""
    return "-".join((platform.system(), platform.machine(), *platform.libc_ver())).lower()


def _unavailable(wanted: str | None, pythons: tuple[Python, ...]) -> BuildFailed:
    minor = sorted({python.parts[:2] for python in pythons if python.parts[:2] >= (3, 8)}, reverse=True)
    names = ", ".join(f"3.{version[1]}" for version in minor) or "none"
    if wanted is None:
        message = f"This machine has no Python 3.10 or newer (it has: {names}). Ask its administrator to install one."
        return BuildFailed("no-python", message, retry=True)
    message = f"Python {wanted} is not available here. Write one of these as `python_version`: {names}."
    return BuildFailed("python-version", message, stage="CONFIG_ERROR", file="README.md")
