"""Memory, process and CPU groups of the kernel, where Dormouse may make them (root, as a rule).

Both layouts are known: one hierarchy per controller (v1), and the unified one (v2). Groups are made below one folder
per installation, so that what a killed runner left can be found and removed. Without them a watchdog bounds memory
and RLIMIT_NPROC the processes.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

_V1 = ("memory", "pids", "cpu")
_SPARE_PIDS = 8  # PID 1, bubblewrap's own two, and what the kernel still counts while reaping.


@dataclass(frozen=True)
class Mounts:
    """Where the hierarchies are mounted."""

    controllers: dict[str, Path]
    unified: Path | None


def parse_mounts(text: str) -> Mounts:
    """From the content of /proc/mounts."""
    controllers: dict[str, Path] = {}
    unified = None
    for line in text.splitlines():
        _, where, kind, options, *_ = line.split(" ")
        if kind == "cgroup2":
            unified = Path(where)
        elif kind == "cgroup":
            controllers |= {name: Path(where) for name in _V1 if name in options.split(",")}
    return Mounts(controllers, unified)


class Cgroups:
    """Groups of one installation."""

    def __init__(self, roots: dict[str, Path], version: int) -> None:
        self._roots, self.version = roots, version

    def create(self, name: str, *, memory_bytes: int, processes: int) -> tuple[Path, ...]:
        """Make a box's groups; the files that its first process writes its pid to. Raises OSError."""
        for folder in self._folders(name).values():
            folder.mkdir(exist_ok=True)
        folders = self._folders(name)
        if self.version == 1:
            (folders["memory"] / "memory.limit_in_bytes").write_text(str(memory_bytes))
            with contextlib.suppress(OSError):  # Swap accounting is optional.
                (folders["memory"] / "memory.memsw.limit_in_bytes").write_text(str(memory_bytes))
            (folders["pids"] / "pids.max").write_text(str(processes + _SPARE_PIDS))
        else:
            folder = folders["unified"]
            (folder / "memory.max").write_text(str(memory_bytes))
            (folder / "pids.max").write_text(str(processes + _SPARE_PIDS))
            for file, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
                with contextlib.suppress(OSError):
                    (folder / file).write_text(value)
        return tuple(folder / "cgroup.procs" for folder in folders.values())

    def out_of_memory(self, name: str) -> bool:
        """Whether the kernel ended a process of the box for its memory limit."""
        key, file = ("memory", "memory.oom_control") if self.version == 1 else ("unified", "memory.events")
        try:
            lines = (self._folders(name)[key] / file).read_text().splitlines()
        except OSError:
            return False
        return any(line.split()[0] == "oom_kill" and line.split()[1] != "0" for line in lines)

    def remove(self, name: str, *, wait_s: float = 0.5) -> None:
        """Remove a box's groups; its processes must have ended. Gives up silently after a short while."""
        deadline = time.monotonic() + wait_s
        for folder in self._folders(name).values():
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.005)

    def remove_ended(self) -> None:
        """Remove groups named `<pid>-...` whose process has ended; for those that have no other owner."""
        for name in self.names():
            if not Path("/proc", name.partition("-")[0]).exists():
                self.remove(name, wait_s=0.0)

    def names(self) -> set[str]:
        """Boxes that have groups."""
        roots = [root for root in self._roots.values() if root.is_dir()]
        return {folder.name for root in roots for folder in root.iterdir() if folder.is_dir()}

    def close(self) -> None:
        """Remove the installation's own folders if they are empty."""
        for root in self._roots.values():
            with contextlib.suppress(OSError):
                root.rmdir()

    def _folders(self, name: str) -> dict[str, Path]:
        return {key: root / name for key, root in self._roots.items()}


def _own_paths() -> dict[str, str]:
    """Controller -> our own group, from /proc/self/cgroup; '' for the unified hierarchy."""
    paths: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    return paths


def _v1(mounts: Mounts, name: str) -> Cgroups | None:
    if not {"memory", "pids"} <= mounts.controllers.keys():
        return None
    own = _own_paths()
    roots = {}
    for controller, mount in mounts.controllers.items():
        parent = mount / own.get(controller, "/").lstrip("/")
        # In a container the path of our group may be the one seen from outside.
        roots[controller] = (parent if parent.is_dir() else mount) / name
        roots[controller].mkdir(exist_ok=True)
    return Cgroups(roots, 1)


def _v2(mounts: Mounts, name: str) -> Cgroups | None:
    if mounts.unified is None:
        return None
    available = (mounts.unified / "cgroup.controllers").read_text().split()
    if not {"memory", "pids"} <= set(available):
        return None
    wanted = " ".join(f"+{controller}" for controller in _V1 if controller in available)
    root = mounts.unified / name
    with contextlib.suppress(OSError):  # They may be on already, and then need no right to change.
        (mounts.unified / "cgroup.subtree_control").write_text(wanted)
    root.mkdir(exist_ok=True)
    (root / "cgroup.subtree_control").write_text(wanted)
    return Cgroups({"unified": root}, 2)


def find_cgroups(name: str) -> tuple[Cgroups | None, str]:
    """Groups under this name, or None and why there are none."""
    why = "this machine offers no memory and process groups"
    try:
        mounts = parse_mounts(Path("/proc/mounts").read_text())
    except OSError as error:
        return None, str(error)
    for layout in (_v1, _v2):
        try:
            groups = layout(mounts, name)
        except OSError as error:
            why = f"groups cannot be made here ({error.strerror})"
            continue
        if groups:
            return groups, ""
    return None, why
