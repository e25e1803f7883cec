"""The system call filter of a box, as a classic BPF program for bubblewrap's --seccomp.

A deny list of what an app never needs and what has opened holes in kernels or in the box: calls that see other
processes, make namespaces or mounts, load code into the kernel, or reach around the network namespace (vsock sockets do
not belong to one). It must hold for every way to make a call: other architectures are killed, x32 numbers refused.
"""

import errno
import struct

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_X32 = 0x40000000
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE_FLAGS = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}; clone(2) knows no NEWTIME.
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
_NETLINK = 16  # Resolvers ask it for addresses; only NETLINK_ROUTE (0) is let through.

# name: (x86_64, aarch64); None where the architecture has no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "perf_event_open": (298, 241),
    "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41),
    "mount": (165, 40), "umount2": (166, 39), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "listmount": (458, 458), "statmount": (457, 457),
    "open_by_handle_at": (304, 265), "sysfs": (139, None), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "nfsservctl": (180, 42), "lookup_dcookie": (212, 18), "uselib": (134, None), "acct": (163, 89),
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
    "init_module": (175, 105), "delete_module": (176, 106), "finit_module": (313, 273),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "bpf": (321, 280), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "fanotify_init": (300, 262), "syslog": (103, 116), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "move_pages": (279, 239), "migrate_pages": (256, 238),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)
ARCHITECTURES = tuple(_AUDIT)

Instruction = tuple[int, int, int, int]


def _return(value: int) -> Instruction:
    return (_RETURN, 0, 0, value)


def _refuse(number: int, error: int = errno.EPERM) -> list[Instruction]:
    return [(_JUMP_EQUAL, 0, 1, number), _return(_ERRNO | error)]


def _only_own_architecture(machine: str) -> list[Instruction]:
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_EQUAL, 1, 0, _AUDIT[machine]), _return(_KILL), (_LOAD, 0, 0, _NUMBER),
    ]  # fmt: skip
    if machine == "x86_64":  # x32 numbers are the same calls again and would slip past the list.
        program += [(_JUMP_AT_LEAST, 0, 1, _X32), _return(_ERRNO | errno.EPERM)]
    return program


def _no_new_namespaces(clone: int) -> list[Instruction]:
    """clone3 hides its flags behind a pointer: answer "no such call", and the C library falls back to clone."""
    return [
        *_refuse(_CLONE3[0], errno.ENOSYS),
        (_JUMP_EQUAL, 0, 4, clone), (_LOAD, 0, 0, _ARGUMENTS), (_JUMP_ANY_BIT, 0, 1, _CLONE_FLAGS),
        _return(_ERRNO | errno.EPERM), _return(_ALLOW),
    ]  # fmt: skip


def _only_common_sockets(numbers: tuple[int, int]) -> list[Instruction]:
    """Families of the box's own network namespace. Must come last: it leaves the accumulator changed."""
    plain = [(_JUMP_EQUAL, len(_FAMILIES) - index + 3, 0, family) for index, family in enumerate(_FAMILIES)]
    return [
        (_JUMP_EQUAL, 1, 0, numbers[0]), (_JUMP_EQUAL, 0, len(plain) + 5, numbers[1]),
        (_LOAD, 0, 0, _ARGUMENTS), *plain,
        (_JUMP_EQUAL, 0, 2, _NETLINK), (_LOAD, 0, 0, _ARGUMENTS + 16), (_JUMP_EQUAL, 1, 0, 0),
        _return(_ERRNO | errno.EAFNOSUPPORT), _return(_ALLOW),
    ]  # fmt: skip


def program(machine: str) -> list[Instruction]:
    """The filter for an architecture of ARCHITECTURES; raises KeyError for others."""
    column = ARCHITECTURES.index(machine) if machine in _AUDIT else -1
    if column < 0:
        raise KeyError(machine)
    denied = [numbers[column] for numbers in DENIED.values()]
    return [
        *_only_own_architecture(machine),
        *(step for number in denied if number is not None for step in _refuse(number)),
        *_no_new_namespaces(_CLONE[column]),
        *_only_common_sockets((_SOCKET[column], _SOCKETPAIR[column])),
        _return(_ALLOW),
    ]


def compiled(machine: str) -> bytes:
    """The filter as the kernel reads it."""
    return b"".join(struct.pack("HBBI", *step) for step in program(machine))
