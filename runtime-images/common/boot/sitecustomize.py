"""Start-up hook of every Python process of an app, found through PYTHONPATH.

It makes Gradio start in two thirds of the time, lets any uvicorn server answer on the socket that PID 1 hands in, and
makes aiohttp use the proxy. It never changes what an app sees of its own server: TCP stays as the app wants it. A part
that does not fit the installed version is left out, with a line in the log.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

_LISTEN, _HOOK = "DORMOUSE_LISTEN_FD", "DORMOUSE_HOOK_FD"


def _without_stub_files(module):
    """Gradio writes a .pyi beside each component at import: half of its import time, for editors only."""
    if hasattr(module, "create_or_modify_pyi"):
        module.create_or_modify_pyi = lambda *_args, **_kwargs: None


def _without_hot_reload(module):
    """Gradio on Spaces wants the package `spaces` for reloading changed files, and prints an error without it.

    The files of a box do not change under a running app: a new commit is a new replica.
    """
    if hasattr(module, "watchfn_spaces"):
        module.watchfn_spaces = lambda _reloader: None


def _proxy_by_default(module):
    """aiohttp is the one common client that ignores HTTPS_PROXY unless asked; an explicit False still counts."""
    original = module.ClientSession.__init__

    def init(self, *args, **kwargs):
        kwargs.setdefault("trust_env", True)
        original(self, *args, **kwargs)

    module.ClientSession.__init__ = init


def _listening(fd):
    """Whether `fd` is the socket: a process started without it may have another file under its number."""
    import socket
    import stat

    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as copy:
            unix = copy.family == socket.AF_UNIX
            return unix and bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _tell(letter):
    try:
        os.write(int(os.environ[_HOOK]), letter)
    except OSError:
        pass


async def _serve(server, fd):
    import asyncio
    import socket

    config = server.config
    arguments = {"config": config, "server_state": server.server_state}
    if hasattr(server.lifespan, "state"):
        arguments["app_state"] = server.lifespan.state

    def protocol(_loop=None):
        return config.http_protocol_class(_loop=_loop, **arguments)

    listener = socket.socket(fileno=os.dup(fd))
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    server.servers.append(await loop.create_server(protocol, sock=listener, backlog=max(config.backlog, 2048)))


def _serve_handed_in_socket(module):
    """The first server of a process also answers on the socket of PID 1."""
    fd = int(os.environ[_LISTEN])
    if not _listening(fd):
        return
    original = module.Server.startup
    pending = [fd]
    _tell(b"u")

    async def startup(self, sockets=None):
        if not pending or self.config.is_ssl:
            return await original(self, sockets=sockets)
        pending.clear()
        _tell(b"c")
        await original(self, sockets=sockets)
        if self.should_exit:
            return None
        try:
            await _serve(self, fd)
        except Exception as error:
            print(f"dormouse: this uvicorn cannot take the socket, using its port: {error!r}", file=sys.stderr)
            _tell(b"f")
        else:
            _tell(b"r")

    module.Server.startup = startup


_wanted = {"gradio.component_meta": _without_stub_files, "gradio.utils": _without_hot_reload}
if os.environ.get("HTTPS_PROXY"):
    _wanted["aiohttp.client"] = _proxy_by_default
if os.environ.get(_LISTEN, "").isdecimal() and os.environ.get(_HOOK, "").isdecimal():
    _wanted["uvicorn.server"] = _serve_handed_in_socket


class _Finder(importlib.abc.MetaPathFinder):
    """Lets Python find the module as always, and changes it right after it was executed."""

    def find_spec(self, name, path, target=None):
        change = _wanted.pop(name, None)
        spec = importlib.machinery.PathFinder.find_spec(name, path) if change else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            try:
                change(module)
            except Exception as error:
                print(f"dormouse: start-up hook left out for {name}: {error!r}", file=sys.stderr)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())


def _run_shadowed_sitecustomize():
    """An environment may bring a sitecustomize of its own, which ours hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [folder for folder in sys.path if folder and os.path.abspath(folder) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if spec and spec.loader:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


try:
    _run_shadowed_sitecustomize()
except Exception as error:
    print(f"dormouse: the environment's sitecustomize failed: {error!r}", file=sys.stderr)
