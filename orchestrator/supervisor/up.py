"""`dormouse up`: everything of one machine in one terminal.

Checks first, so that what cannot work ends in one sentence; then key, database and admin; then the children; then one
line on standard output that scripts wait for; then the samples. From there on it lives until a signal comes, whatever
happens to its children.
"""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from orchestrator import log as logs
from orchestrator import metrics
from orchestrator.errors import DormouseError
from orchestrator.settings import Settings, unknown
from orchestrator.supervisor import checks, kernel
from orchestrator.supervisor.children import ChildSpec, Family
from orchestrator.supervisor.console import Console, parse

log = structlog.get_logger()
SLOW_S = 15.0
"""A start that takes longer names what it waits for."""


def up(settings: Settings) -> int:
    """Run until a signal; the exit status. Raises DormouseError where the start is refused."""
    console = Console(as_json=settings.log_json, level=settings.log_level)
    show_own_log(console, settings.log_level)
    for line in unknown(os.environ):
        log.warning("unknown_setting", meaning=line)
    command = command_line()  # As seen from the folder of the caller, which is left below.
    os.umask(0o022)  # The data folder itself lets nobody else in.
    lock = checks.preflight(settings)
    try:
        os.chdir(settings.run)
        kernel.raise_file_limit()
        return asyncio.run(Up(settings, console, command=command).run())
    finally:
        lock.close()


class Up:
    """One life of the supervisor."""

    def __init__(self, settings: Settings, console: Console, *, command: str = "dormouse") -> None:
        self._settings = settings
        self._console = console
        self._command = command
        self._stop = asyncio.Event()
        self._signalled = False
        self._family: Family | None = None

    async def run(self) -> int:
        """Start, serve, stop."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        failure = starting.exception() if starting.done() and not starting.cancelled() else None
        if failure is None:
            await self._stop.wait()
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await self._end()
        if failure is not None:
            raise failure
        return 0

    def _on_signal(self, number: int) -> None:
        if self._signalled and self._family is not None:
            self._family.hurry.set()
        if not self._signalled:
            self._console.say(f"stopping ({signal.Signals(number).name}; once more to hurry)", event="stopping")
        self._signalled = True
        self._stop.set()

    async def _start(self) -> None:
        from orchestrator.supervisor import first_start
        from orchestrator.supervisor.processes import specs

        began, settings = time.monotonic(), self._settings
        token, awake = await self._prepare()
        self._family = make_family(settings, specs(settings), self._console)
        if awake:
            self._console.say(f"starting {awake} app{'s' * (awake > 1)} that ran before", event="apps_start_again")
        with self._progress("starting the processes") as on_ready:
            complaining = asyncio.create_task(self._complain(self._family))
            try:
                await self._family.start(on_ready)
            finally:
                complaining.cancel()
        log.info("up", took_s=round(time.monotonic() - began, 1), data=str(settings.data))
        self._say_how_to_sign_in(token)
        if token:
            await asyncio.to_thread(first_start.shown, settings)
        print(f"ready: {ready_url(settings)}", flush=True)
        # A plain daemon thread: the interpreter must not wait for a push that goes on when the signal comes.
        threading.Thread(target=self._publish, name="samples", daemon=True).start()

    def _say_how_to_sign_in(self, token: str) -> None:
        login, another = f"{self._settings.public_url}/login", f"{self._command} users token admin"
        if token:
            self._console.say(
                f"\n  admin's token (shown this once): {token}\n  sign in at {login}\n"
                f"  if it gets lost, this makes another: {another}\n",
                event="admin_token",
            )
        else:
            self._console.say(f"sign in at {login} (a lost token: {another})", event="sign_in")

    async def _prepare(self) -> tuple[str, int]:
        """Key, database and admin, in a thread so that signals are answered meanwhile.

        The token to show, if any, and how many apps will be started again.
        """

        def work() -> tuple[str, int]:
            from orchestrator.supervisor.first_start import awake_apps, prepare

            return prepare(self._settings), awake_apps(self._settings)

        with self._console.step("preparing the database"):
            return await asyncio.to_thread(work)

    async def _complain(self, family: Family) -> None:
        """Name those that keep everybody waiting."""
        while True:
            await asyncio.sleep(SLOW_S)
            log.warning("still_waiting_for", children=[row["name"] for row in family.snapshot() if not row["ready"]])

    @contextmanager
    def _progress(self, text: str) -> Iterator[Callable[[str, float], None]]:
        def on_ready(name: str, took_s: float) -> None:
            log.info("child_ready", child=name, took_s=round(took_s, 2))

        with self._console.step(text):
            yield on_ready

    def _publish(self) -> None:
        from orchestrator.supervisor.samples import Samples

        try:
            Samples(self._settings, self._console, stopping=self._stop.is_set).run()
        except Exception:  # The samples are a courtesy; whatever goes wrong there must not go unseen, nor further.
            if not self._stop.is_set():
                log.exception("samples_failed")

    async def _end(self) -> None:
        if self._family is not None:
            began = time.monotonic()
            await self._family.stop()
            took = time.monotonic() - began
            self._console.say(f"stopped, all of it, in {took:.1f} s", event="stopped", took_s=round(took, 1))


def make_family(settings: Settings, specs: list[ChildSpec], console: Console) -> Family:
    """The children with their lines shown on the console and their metrics kept in order."""
    folder = metrics.fresh_folder(settings.run)
    quiet = {spec.name: re.compile(spec.quiet) for spec in specs if spec.quiet}

    def output(name: str, line: bytes) -> None:
        record = parse(line)
        if name in quiet and quiet[name].search(line.decode("utf-8", "replace")):
            record["level"] = "debug"
        console.record(name, record)

    return Family(
        specs,
        folder=settings.run,
        output=output,
        ended=lambda pid: metrics.forget_process(folder, pid),
        # The command line finds the running installation by these, whatever its own environment says.
        facts={"port": settings.port, "bind": settings.bind, "domain": settings.domain},
    )


def command_line() -> str:
    """How the person who started Dormouse calls it: by its name where that is found, else by its path."""
    own = Path(sys.prefix) / "bin" / "dormouse"
    found = shutil.which("dormouse")
    if not own.exists() or (found is not None and Path(found).resolve() == own.resolve()):
        return "dormouse"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


def ready_url(settings: Settings) -> str:
    """What scripts read: the address on this machine."""
    return f"http://localhost:{settings.port}" if settings.domain == "localhost" else settings.public_url


def show_own_log(console: Console, level: str) -> None:
    """The supervisor's own events go through the same console as its children's."""

    def show(_logger: object, method: str, record: structlog.typing.EventDict) -> str:
        record.setdefault("level", method)
        console.record("dormouse", record)
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(key="t"),
            structlog.processors.format_exc_info,
            logs.redact,
            show,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)


def main(settings: Settings) -> int:
    """`up` for the command line: a refusal is one sentence and status 1, never a traceback."""
    try:
        return up(settings)
    except DormouseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
