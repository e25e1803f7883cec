"""The process `runner`: holds the apps of this machine, so that every other process may come and go.

It opens no database and decides nothing: it carries out the verbs of `ports.runtime`. On SIGTERM or SIGINT it ends
every app; if it is killed, the apps run on and its successor finds them.
"""

import asyncio
import fcntl
import os
import signal
from pathlib import Path

import structlog

from builder.sandbox.syscalls import signal_when_parent_ends
from orchestrator.errors import Unavailable
from orchestrator.runner.boxes import Boxes
from orchestrator.runner.control import ControlServer
from orchestrator.runner.site import Site
from orchestrator.settings import Settings

log = structlog.get_logger()

SOCKET = Path("runner.sock")
_STOP_GRACE_S = 5.0


def _lock() -> int:
    """Held as long as this process lives; two runners would end each other's apps."""
    fd = os.open("runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise Unavailable("Another runner already works in this data folder; stop it first.") from error
    return fd


def _prepare_folders() -> None:
    for name, mode in (("apps", 0o700), ("boxes", 0o700), ("egress", 0o755)):
        Path(name).mkdir(mode=mode, exist_ok=True)
        Path(name).chmod(mode)


def _report(site: Site) -> None:
    isolation = site.isolation
    weaker = {name: text for name, text in isolation.features.items() if not text.startswith("on")}
    if isolation.level == "none":
        log.warning("isolation", degree=isolation.level, **weaker)
        return
    log.info(
        "isolation", degree=isolation.level, **({"weaker": sorted(weaker), "see": "dormouse doctor"} if weaker else {})
    )
    log.debug("isolation_weaker", **weaker)


async def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. The working folder is the run folder."""
    signal_when_parent_ends(signal.SIGTERM)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lock = _lock()
    _prepare_folders()
    site = Site(settings)
    _report(site)
    boxes = Boxes(site, Path())
    boxes.adopt()
    server = await ControlServer(boxes, site.isolation).open(SOCKET)
    log.debug("runner_ready")
    await stop.wait()
    server.close()
    await boxes.close(_STOP_GRACE_S)
    SOCKET.unlink(missing_ok=True)  # noqa: ASYNC240 - at the end
    os.close(lock)
    log.debug("runner_stopped")
