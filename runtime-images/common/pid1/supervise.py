"""PID 1 after the app was started: reaps, forwards signals, finds out when the app listens, relays, keeps the log.

How the app is reached is decided here. The start-up hook says on its pipe: `u` uvicorn is imported, `c` a server claims
the handed-in socket, `r` it serves, `f` it failed to. If instead something accepts on the TCP port and nobody claimed,
connections are relayed to it. Streamlit listens on TCP before its uvicorn claims, hence the grace after a `u`.
"""

import _signal
import _socket
import os
import time

from pid1.applog import AppLog
from pid1.loop import READ, Loop
from pid1.relay import Relay, Socket, begin_connect

EGRESS_PORT = 3128
_CLAIM_GRACE_S = 1.0
_FAST_POLL_S, _SLOW_POLL_S, _FAST_FOR_S = 0.01, 0.1, 5.0
_FORWARDED = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)
_LOOPBACK = {_socket.AF_INET: "127.0.0.1", _socket.AF_INET6: "::1"}
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36


def supervise(app: int, options: "dict[str, str]", *, hook: int, output: int) -> None:
    """Look after the app until it ends; then end with its exit code (128 + n for signal n)."""
    supervisor = _Supervisor(app, options)
    supervisor.catch_signals()
    _close_to_the_app(bare="bare" in options)
    if output >= 0:
        supervisor.capture(output, int(options["log"]))
    if "egress" in options:
        supervisor.open_egress(options["egress"])
    if "listen" in options:
        supervisor.find_listener(int(options["listen"]), int(options["port"]), hook)
    while True:
        supervisor.turn()


def _close_to_the_app(*, bare: bool) -> None:
    """Keep the app, which has the same uid, away from our memory and descriptors through /proc."""
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if bare:  # What the app leaves behind becomes our child, so that it can be found at the end.
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _listen(port: int) -> Socket:
    listener = Socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


class _Supervisor:
    def __init__(self, app: int, options: "dict[str, str]") -> None:
        self._app, self._bare = app, "bare" in options
        self._status = int(options["status"]) if "status" in options else -1
        self._loop = Loop()
        self._started = time.monotonic()
        self._log: AppLog | None = None
        self._listener: Socket | None = None
        self._family, self._port = _socket.AF_INET, 0
        self._waiting = self._claimed = self._uvicorn = False
        self._accepted_since = 0.0

    # --- signals and children ---------------------------------------------------------------------------------
    def catch_signals(self) -> None:
        read, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (*_FORWARDED, _signal.SIGCHLD):
            _signal.signal(number, lambda *_: None)
        self._loop.watch(read, READ, lambda _events: self._signals(read))
        os.write(self._wake, bytes([_signal.SIGCHLD]))  # It may have ended before the handlers were there.

    def _signals(self, read: int) -> None:
        for number in os.read(read, 256):
            if number == _signal.SIGCHLD:
                self._reap()
            else:
                self._forward(number)

    def _forward(self, number: int) -> None:
        try:
            os.kill(-self._app, number)
        except ProcessLookupError:
            pass

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._app:
                self._end(os.waitstatus_to_exitcode(status))

    def _end(self, code: int) -> None:
        if self._log:
            self._log.finish()
        self._tell(f"X {code}")
        if self._bare:
            self._kill_leftovers()
        os._exit(code if code >= 0 else 128 - code)

    def _kill_leftovers(self) -> None:
        self._forward(_signal.SIGKILL)
        for _ in range(100):  # Children of what was killed become ours in turn.
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = file.read().split()
            if not children:
                return
            for child in children:
                os.kill(int(child), _signal.SIGKILL)
                os.waitpid(int(child), 0)

    def _tell(self, message: str) -> None:
        if self._status < 0:
            return
        try:
            os.write(self._status, f"{message}\n".encode())
        except OSError:
            pass

    # --- output, way out, way in ------------------------------------------------------------------------------
    def capture(self, source: int, target: int) -> None:
        log = self._log = AppLog(source, target)

        def readable(_events: int) -> None:
            if not log.pump():
                self._loop.unwatch(source)

        self._loop.watch(source, READ, readable)

    def open_egress(self, path: str) -> None:
        try:
            Relay(self._loop, _listen(EGRESS_PORT), lambda: begin_connect(_socket.AF_UNIX, path))
        except OSError:  # Without a namespace of our own the port may be taken; the app then has no way out.
            pass

    def find_listener(self, fd: int, port: int, hook: int) -> None:
        self._listener, self._port = Socket(fileno=fd), port
        self._waiting = True
        self._loop.watch(hook, READ, lambda _events: self._heard(hook))
        self._hook = hook

    def _heard(self, hook: int) -> None:
        data = os.read(hook, 64)
        if not data:
            self._loop.unwatch(hook)
            return
        self._uvicorn = self._uvicorn or b"u" in data
        self._claimed = (self._claimed or b"c" in data) and b"f" not in data
        if b"r" in data and self._waiting:
            self._ready("uds")

    def _ready(self, how: str) -> None:
        self._waiting = False
        self._tell(f"R {how} {(time.monotonic() - self._started) * 1e3:.1f}")

    def _dial_app(self) -> Socket:
        return begin_connect(self._family, (_LOOPBACK[self._family], self._port))

    def _accepts(self) -> bool:
        """Whether something accepts on the port, by IPv4 or else IPv6. On the loopback a refusal comes at once."""
        for self._family in _LOOPBACK:
            try:
                attempt = self._dial_app()
            except OSError:
                continue
            refused = attempt.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            attempt.close()
            if not refused:
                return True
        return False

    def _look_for_port(self) -> None:
        if not self._accepts():
            return
        now = time.monotonic()
        self._accepted_since = self._accepted_since or now
        if self._uvicorn and now - self._accepted_since < _CLAIM_GRACE_S:
            return
        assert self._listener
        Relay(self._loop, self._listener, self._dial_app)
        self._ready("tcp")

    def turn(self) -> None:
        """Wait for the next thing to do and do it."""
        looking = self._waiting and not self._claimed
        fast = time.monotonic() - self._started < _FAST_FOR_S
        self._loop.turn((_FAST_POLL_S if fast else _SLOW_POLL_S) if looking else None)
        # The hook's pipe was read first in this turn, so a claim made before the port opened is known here.
        if self._waiting and not self._claimed:
            self._look_for_port()
