"""bubblewrap's arguments from a description of the box. Pure: the same box gives the same arguments.

The order matters and is fixed here: the system first, then empty writable places, then what is mounted into them, and
at last /dev and the root of the box made read-only, which are in memory and have no size. Everything is given through
--args, so that no value (secrets are among the variables) is ever seen on a command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HOME = "/home/user"
WORK = "/home/user/app"
UID = 1000


@dataclass(frozen=True)
class Bind:
    """A file or folder of the machine inside the box."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Overlay:
    """A folder that can be written to inside the box while the original never changes."""

    source: str
    target: str


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    points_to: str
    path: str


@dataclass(frozen=True)
class Scratch:
    """An empty writable place in memory with a size."""

    target: str
    size_bytes: int
    mode: str = "0755"


Mount = Bind | Overlay | Link | Scratch


@dataclass(frozen=True, kw_only=True)
class Box:
    """One box. Mounts are made in their order."""

    mounts: Sequence[Mount]
    environment: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    hostname: str = "space"
    share_network: bool = False
    die_with_parent: bool = False
    seccomp_fd: int | None = None
    status_fd: int | None = None


def _mount(mount: Mount) -> list[str]:
    match mount:
        case Bind():
            return ["--bind" if mount.writable else "--ro-bind", mount.source, mount.target]
        case Overlay():
            return ["--overlay-src", mount.source, "--tmp-overlay", mount.target]
        case Link():
            return ["--symlink", mount.points_to, mount.path]
        case Scratch():
            return ["--size", str(mount.size_bytes), "--perms", mount.mode, "--tmpfs", mount.target]


def _namespaces(box: Box) -> list[str]:
    return [
        "--unshare-all", "--unshare-user", "--disable-userns", *(["--share-net"] if box.share_network else []),
        "--uid", str(UID), "--gid", str(UID), "--hostname", box.hostname,
        "--new-session", "--clearenv", "--cap-drop", "ALL",
        *(["--die-with-parent"] if box.die_with_parent else []),
    ]  # fmt: skip


def bubblewrap_arguments(box: Box) -> list[str]:
    """Everything but the command. Raises ValueError for a variable that no process can have."""
    arguments = [*_namespaces(box), "--proc", "/proc", "--dev", "/dev"]
    for mount in box.mounts:
        arguments += _mount(mount)
    for name, value in box.environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"{name!r} cannot be the name of a variable, or its value holds a zero byte")
        arguments += ["--setenv", name, value]
    arguments += ["--chdir", box.workdir, "--as-pid-1"]
    if box.status_fd is not None:
        arguments += ["--json-status-fd", str(box.status_fd)]
    if box.seccomp_fd is not None:
        arguments += ["--seccomp", str(box.seccomp_fd)]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/"]


def encoded(arguments: Sequence[str]) -> bytes:
    """Arguments as bubblewrap's --args reads them."""
    return b"".join(argument.encode("utf-8", "surrogateescape") + b"\0" for argument in arguments)
