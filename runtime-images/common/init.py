"""PID 1 of a box: starts the app at once, then looks after it.

The app is spawned before anything else is imported, so that the imports of `pid1` overlap with the app's own start.
Options come before `--` as name=value, the app's command after it:

    listen=FD    the listening Unix socket that visitors reach; handed on to the app, or relayed to `port`
    status=FD    gets `R uds|tcp <ms>` when the app listens, `X <code>` when it ended, `F <why>` if it could not start
    log=FD       gets what the app prints, as lines of JSON; without it the app writes to the inherited output
    port=N       TCP port that an app listens on that does not take the socket
    egress=PATH  socket of the filtering proxy; relayed from 127.0.0.1:3128
    limits=A:N   resource limits, separated by commas; set here, inside the user namespace, so they count this box only
    bare=1       not PID 1 of a namespace of its own: what the app leaves behind has to be looked for

It must never run code of the Space itself, and never let the app see `status` or `log`. Only the standard library,
and of that only what imports fast: it runs with -I -S -B.
"""

import os
import sys

_INHERITED_BY_APP = 3  # stdin, stdout, stderr
_SIGPIPE, _SIGXFSZ = 13, 25


def _parse(arguments: "list[str]") -> "tuple[dict[str, str], list[str]]":
    end = arguments.index("--")
    return dict(item.split("=", 1) for item in arguments[:end]), arguments[end + 1 :]


def _close_on_exec() -> None:
    """Nothing that was inherited reaches the app unless it is asked for."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= _INHERITED_BY_APP:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # The descriptor of the listing itself.
                continue


def _limit(text: str) -> None:
    import resource

    for item in filter(None, text.split(",")):
        name, _, value = item.partition(":")
        if name == "NOFILE":  # The app's alone: PID 1 needs six for each connection that it relays.
            continue
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        wanted = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(which, (wanted, wanted))


def _spawn(options: "dict[str, str]", command: "list[str]") -> "tuple[int, int, int]":
    """Start the app; its pid, the pipe of the start-up hook and the pipe of its output (-1 if it is not captured)."""
    _close_on_exec()
    _limit(options.get("limits", ""))
    hook_read, hook_write = os.pipe()
    environment = dict(os.environ)
    actions, output_read = [], -1
    if "listen" in options:
        os.set_inheritable(hook_write, True)
        os.set_inheritable(int(options["listen"]), True)
        environment |= {"DORMOUSE_LISTEN_FD": options["listen"], "DORMOUSE_HOOK_FD": str(hook_write)}
    if "log" in options:
        output_read, output_write = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, output_write, 1), (os.POSIX_SPAWN_DUP2, output_write, 2)]
    app = os.posix_spawnp(
        command[0], command, environment, file_actions=actions, setpgroup=0, setsigmask=[],
        setsigdef=[_SIGPIPE, _SIGXFSZ],
    )  # fmt: skip
    os.close(hook_write)
    if "log" in options:
        os.close(output_write)
    return app, hook_read, output_read


def _limit_files(app: int, text: str) -> None:
    import resource

    own = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for item in filter(None, text.split(",")):
        name, _, value = item.partition(":")
        if name == "NOFILE":
            wanted = min(int(value), own) if own != resource.RLIM_INFINITY else int(value)
            resource.prlimit(app, resource.RLIMIT_NOFILE, (wanted, wanted))
    resource.setrlimit(resource.RLIMIT_NOFILE, (own, own))


def _first_choice_for_the_kernel(app: int) -> None:
    """If memory runs out the kernel is to end the app, not its PID 1, which still has to say what happened."""
    try:
        with open(f"/proc/{app}/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass


def main() -> None:
    options, command = _parse(sys.argv[1:])
    try:
        app, hook, output = _spawn(options, command)
    except OSError as error:
        if "status" in options:
            os.write(int(options["status"]), f"F {command[0]}: {error.strerror}\n".encode())
        else:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)
    _limit_files(app, options.get("limits", ""))
    _first_choice_for_the_kernel(app)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from pid1.supervise import supervise

    supervise(app, options, hook=hook, output=output)


main()
