"""Finds out, by trying, what of the sandbox works on this machine, so that nobody has to guess from settings.

A box is started with everything switched on; if that fails, again without what can be done without. The result says in
plain words what is missing, what that means and what would help.
"""

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.sandbox import host, launch, seccomp
from builder.sandbox.arguments import Bind, Box, Mount, Overlay, bubblewrap_arguments, encoded
from builder.sandbox.view import PlainView

_PROBE_TIMEOUT_S = 15
_TARGET = "/home/user/app"
_SCRIPT = "test -r /home/user/app/probe || exit 3; echo x > /home/user/app/written 2>/dev/null && echo writable; exit 0"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What works."""

    works: bool
    """Whether a box can be started at all."""
    problem: str = ""
    """Why not, with what would help."""
    overlay: bool = False
    """Whether the working folder of an app can be written to."""
    system_calls: bool = False
    """Whether a system call filter exists for this architecture."""


def seccomp_descriptor() -> int | None:
    """A descriptor of the filter for this machine, or None where there is no table."""
    if host.machine() not in seccomp.ARCHITECTURES:
        return None
    return launch.memory_file("filter", seccomp.compiled(host.machine()))


def _help(message: str) -> str:
    """What an administrator can do about a refusal of the kernel."""
    knobs = {
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": ("0", "1"),
        "/proc/sys/kernel/unprivileged_userns_clone": ("1", "0"),
    }
    for path, (wanted, refusing) in knobs.items():
        with contextlib.suppress(OSError):
            if Path(path).read_text().strip() == refusing:
                name = path.removeprefix("/proc/sys/").replace("/", ".")
                return f"Run `sysctl {name}={wanted}` as root, which lets users make namespaces."
    with contextlib.suppress(OSError):
        if Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
            return "Run `sysctl user.max_user_namespaces=10000` as root."
    if "ermission denied" in message and os.geteuid() == 0:
        return "Run Dormouse as an ordinary user, or put its data where every user may enter the folders above."
    return "In a container, allow user namespaces (an unconfined seccomp and AppArmor profile)."


def _try(view: PlainView, uid: int | None, mounts: Sequence[Mount], binary: Path) -> tuple[bool, str]:
    """Start a box that looks at its working folder; whether it ran, and what it printed."""
    filter_fd = seccomp_descriptor()
    box = Box(mounts=[*host.system_mounts(), *mounts], environment={"PATH": "/usr/bin:/bin"}, seccomp_fd=filter_fd)
    wanted = launch.Launch(
        program=view.expose_bubblewrap(binary), arguments=encoded(bubblewrap_arguments(box)),
        command=["/bin/sh", "-c", _SCRIPT], descriptors=[] if filter_fd is None else [filter_fd], uid=uid,
    )  # fmt: skip
    try:
        process = launch.start(wanted, output=subprocess.PIPE)
        output, _ = process.communicate(timeout=_PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False, "bubblewrap did not answer"
    finally:
        if filter_fd is not None:
            os.close(filter_fd)
    return process.returncode == 0, output.decode(errors="replace").strip()


def probe(view: PlainView, uid: int | None = None) -> Probe:
    """Try it, with a folder that is as private as those of Spaces. Blocks for some tens of milliseconds."""
    binary = host.bubblewrap()
    if binary is None:
        return Probe(works=False, problem="bubblewrap is not installed. Install the package bubblewrap.")
    with tempfile.TemporaryDirectory(prefix="dormouse-probe-") as folder:
        (Path(folder) / "probe").write_text("probe\n")
        try:
            return _probe(view, uid, Path(folder), binary)
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno else str(error)
            hint = _help(cause) if error.errno in (errno.EPERM, errno.EACCES) else ""
            return Probe(works=False, problem=f"bubblewrap cannot be started: {cause}. {hint}".strip())


def _probe(view: PlainView, uid: int | None, folder: Path, binary: Path) -> Probe:
    filtered = host.machine() in seccomp.ARCHITECTURES
    owned = view.expose_owned(folder, uid, "probe")
    try:
        if owned:
            ran, said = _try(view, uid, [Overlay(owned, _TARGET)], binary)
            if ran and "writable" in said:
                return Probe(works=True, overlay=True, system_calls=filtered)
        if not owned:
            folder.chmod(0o755)
        ran, said = _try(view, uid, [Bind(owned or view.expose(folder), _TARGET)], binary)
    finally:
        view.withdraw("probe")
    if ran:
        return Probe(works=True, overlay=False, system_calls=filtered)
    return Probe(works=False, problem=f"bubblewrap cannot make a box: {said[-300:]}. {_help(said)}")
