"""Helper process of `run`: makes the view of the machine, drops to the box's uid and becomes bubblewrap.

    python -m builder.sandbox.enter FD      FD holds the order of `run.plan`

Ends with 125 and a sentence on its output where the sandbox does not work.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from builder.sandbox import host, launch
from builder.sandbox.arguments import (
    HOME,
    Bind,
    Box,
    Mount,
    Scratch,
    bubblewrap_arguments,
    encoded,
)
from builder.sandbox.probe import seccomp_descriptor
from builder.sandbox.view import PlainView, make_view

_BUILD_UID = launch.FIRST_BOX_UID - 1
EGRESS = "/run/egress"
PROXY = "http://127.0.0.1:3128"
NO_PROXY = "localhost,127.0.0.1,::1"


def proxy_variables() -> dict[str, str]:
    """How clients inside a box find the way out."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    return dict.fromkeys(names, PROXY) | dict.fromkeys(("NO_PROXY", "no_proxy"), NO_PROXY)


def pid1_command(options: dict[str, object], command: list[str], *, common: str = host.COMMON) -> list[str]:
    """The command line of a box's PID 1."""
    given = [f"{name}={value}" for name, value in options.items()]
    return [str(host.own_interpreter()), "-I", "-S", "-B", f"{common}/init.py", *given, "--", *command]


def _mounts(order: dict[str, Any], view: PlainView, uid: int | None) -> list[Mount]:
    common = view.expose(host.common_folder())
    size = int(order["disk_mb"]) << 20
    folder = Path(order["environment_folder"]) if order["environment_folder"] else None
    mounts: list[Mount] = [
        *host.system_mounts(), *host.etc_mounts(common, share_network=False),
        Scratch("/tmp", size, "1777"), Scratch(HOME, size), Scratch("/dev/shm", 64 << 20, "1777"),  # noqa: S108
        Bind(common, host.COMMON),
    ]  # fmt: skip
    mounts += [Bind(view.expose(prefix), str(prefix)) for prefix in host.interpreter_prefixes(folder)]
    if order["egress"]:
        mounts.append(Bind(view.expose(Path(order["egress"])), EGRESS))
    mounts += [Bind(view.expose(Path(path)), inside) for inside, path in order["read_only"].items()]
    for number, (inside, path) in enumerate(order["writable"].items()):
        source = view.expose_owned(Path(path), uid, f"writable-{number}")
        if source is None:
            raise PermissionError(f"{inside} cannot be made writable on this kernel; run Dormouse as an ordinary user")
        mounts.append(Bind(source, inside, writable=True))
    return mounts


def _file_limit(order: dict[str, Any]) -> str:
    return f",FSIZE:{order['file_bytes_max']}" if order["file_bytes_max"] else ""


def _wanted(order: dict[str, Any]) -> launch.Launch:
    binary = host.bubblewrap()
    if binary is None:
        raise FileNotFoundError("bubblewrap is not installed")
    root = os.geteuid() == 0
    uid = _BUILD_UID if root else None
    sources = [Path(path) for path in (*order["read_only"].values(), *order["writable"].values())]
    keep = [*sources, *host.interpreter_prefixes(), host.common_folder(), binary]
    view, _ = make_view([path.resolve() for path in keep])
    filter_fd = seccomp_descriptor()
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": HOME, "LANG": "C.UTF-8"} | order["environment"]
    options: dict[str, object] = {"limits": f"NPROC:{order['processes_max']},CORE:0{_file_limit(order)}"}
    if order["egress"]:
        environment = proxy_variables() | environment
        options["egress"] = f"{EGRESS}/egress.sock"
    box = Box(
        mounts=_mounts(order, view, uid), environment=environment, workdir=order["workdir"], hostname="build",
        die_with_parent=True, seccomp_fd=filter_fd,
    )  # fmt: skip
    return launch.Launch(
        program=view.expose_bubblewrap(binary), arguments=encoded(bubblewrap_arguments(box)),
        command=pid1_command(options, order["command"]), uid=uid, join=[Path(path) for path in order["join"]],
        descriptors=[] if filter_fd is None else [filter_fd],
    )  # fmt: skip


def main() -> NoReturn:
    parent = os.getppid()
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        order = json.load(file)
    try:
        wanted = _wanted(order)
        if os.getppid() != parent:  # The caller has gone already; bubblewrap would wait for nobody.
            raise ProcessLookupError("the caller has ended")
        launch.become(wanted)
    except (OSError, ValueError) as error:
        print(f"The sandbox cannot be made: {error}", flush=True)
        sys.exit(125)


if __name__ == "__main__":
    main()
