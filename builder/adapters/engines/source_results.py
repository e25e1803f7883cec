"""Takes an environment that hostile code has made out of its box, and makes it one of ours.

It is moved out in one step, its interpreter is replaced by ours, everything in it loses its write bits, and only then
it gets its name. No link in it is followed.
"""

import secrets
import stat
from pathlib import Path

from builder.adapters.engines.pythons import Python
from builder.adapters.files import publish, seal
from builder.failures import BuildFailed
from builder.sandbox.trees import remove_tree


def take_out(made: Path, final: Path, *, lock: str, python: Python) -> None:
    """Move `made` to `final`. Raises BuildFailed if it is no environment."""
    outside = final.with_name(f".{final.name}-{secrets.token_hex(8)}")
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(outside)
        if not stat.S_ISDIR(outside.lstat().st_mode):
            outside.unlink()
            raise _no_environment()
        _restore_interpreter(outside, python)
        seal(outside)
        _write_plain(outside, "lock.txt", lock)
        publish(outside, final)
    except FileNotFoundError as error:
        raise _no_environment() from error
    finally:
        remove_tree(outside)


def _no_environment() -> BuildFailed:
    return BuildFailed("install-failed", "The build left no environment in the sandbox.")


def _restore_interpreter(folder: Path, python: Python) -> None:
    """Make `bin/python` ours again: whoever starts the app shows the sandbox what this link leads to."""
    binaries = folder / "bin"
    if binaries.is_symlink() or not binaries.is_dir():
        raise _no_environment()
    for path in list(binaries.iterdir()):
        if path.is_symlink() or path.name.startswith("python"):
            remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (binaries / "python").symlink_to(python.path)
    major, minor = python.parts[:2]
    for name in (f"python{major}", f"python{major}.{minor}"):
        (binaries / name).symlink_to("python")
    text = f"home = {python.path.parent}\nimplementation = CPython\nversion_info = {python.version}\n"
    _write_plain(folder, "pyvenv.cfg", text + "include-system-site-packages = false\nrelocatable = true\n")


def _write_plain(folder: Path, name: str, text: str) -> None:
    """A new file, whatever lies under that name."""
    path = folder / name
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o444)
