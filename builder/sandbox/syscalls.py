"""System calls that Python does not offer: namespaces, mounts, prctl. Linux only, each raises OSError.

Numbers above 423 are the same on every architecture.
"""

import ctypes
import os
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 1 << 12, 1 << 14, 1 << 19
_MNT_DETACH = 2
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _MOUNT_ATTR_IDMAP = 1, 4, 0x00100000
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    """Move this process into new namespaces. Only safe before threads exist."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    encode = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _checked(_libc.mount(encode[0], encode[1], encode[2], ctypes.c_ulong(flags), encode[3]), target)


def unmount(target: str) -> None:
    """Detach a mount; it goes when its last user does."""
    _checked(_libc.umount2(target.encode(), _MNT_DETACH), target)


def mount_owned_by(source: Path, target: str, user_namespace: int) -> None:
    """Mount `source` at `target` with the owners of its files mapped through a user namespace."""
    tree = _checked(
        _libc.syscall(
            _OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
        ),
        str(source),
    )  # fmt: skip
    try:
        wanted = _MountAttributes(_MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
        size = ctypes.c_size_t(ctypes.sizeof(wanted))
        _checked(_libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size), str(source))
        _checked(
            _libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH), target
        )  # fmt: skip
    finally:
        os.close(tree)


def user_namespace(inside: int, outside: int) -> int:
    """A descriptor of a new user namespace that maps one id, for `mount_owned_by`. Needs root."""
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done_write)
        made = _libc.unshare(CLONE_NEWUSER) == 0
        os.write(ready_write, b"1" if made else b"0")
        os.read(done_read, 1)
        os._exit(0)
    try:
        os.close(ready_write)
        os.close(done_read)
        if os.read(ready_read, 1) != b"1":
            raise PermissionError("user namespaces cannot be made")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"{inside} {outside} 1\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready_read)
        os.close(done_write)
        os.waitpid(child, 0)


def signal_when_parent_ends(number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")
