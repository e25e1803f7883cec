"""The worker process: a Celery worker with threads, and the only place that chooses the real adapters.

Builds run in threads of one process, because a process dies as a whole: commands are started by those threads with a
death signal, so a killed worker leaves nothing running. On SIGTERM every build is stopped at once and its order goes
back to the queue.

The broker's address is a Unix socket in the working folder, which is the installation's run folder.
"""

import logging
import os
import secrets
import socket
import threading
from pathlib import Path
from urllib.parse import quote

import celery
import structlog
from celery import signals

from builder.adapters.control import Control, Stopped
from builder.adapters.engines.environment import EnvironmentEngine
from builder.adapters.engines.pythons import Pythons
from builder.adapters.engines.uv import Uv, find_binary
from builder.adapters.files import remove_leftovers
from builder.adapters.reporter import InternalApi
from builder.adapters.snapshot import Snapshots
from builder.failures import BuildFailed
from builder.pipeline import Tools
from builder.settings import Settings
from builder.tasks import Builder, register

QUEUE = "builds"
SOCKET_PATH_MAX = 100
_SPARE_S = 600.0

log = structlog.get_logger()


def make_tools(settings: Settings) -> tuple[Tools, Pythons]:
    """The real adapters."""
    uv = Uv(find_binary(), settings.environ, wheels=settings.wheels)
    pythons = Pythons(uv, settings.data / "pythons", cache=settings.cache / "uv", downloads=settings.python_downloads)
    engine = EnvironmentEngine(settings, uv, pythons)
    return Tools(settings=settings, engine=engine, snapshots=Snapshots(settings)), pythons


def make_app(settings: Settings) -> celery.Celery:
    """The Celery application, without its task."""
    app = celery.Celery("dormouse", broker=broker_url(settings.run / "redis.sock"), set_as_current=False)
    longest = settings.install_timeout_s + 5 * settings.fetch_timeout_s + _SPARE_S
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # An order whose worker died is sent again by the controller, when its lease ends. The broker's own repeat is
        # only the last resort, and must never come while a build may still be running.
        broker_transport_options={"visibility_timeout": longest},
    )
    return app


def broker_url(path: Path) -> str:
    """Celery takes absolute paths only; one that is too long for a socket is named by way of the working folder."""
    path = path.absolute()
    if len(bytes(path)) > SOCKET_PATH_MAX:
        path = Path("/proc/self/cwd") / path.name
    return f"redis+socket://{quote(str(path))}"


def run(settings: Settings) -> None:
    """Work until a signal."""
    os.umask(0o022)
    _configure_logs(settings)
    tools, pythons = make_tools(settings)
    _clean(settings)
    threading.Thread(target=_look_for_pythons, args=(pythons,), daemon=True).start()
    worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    builder = Builder(tools, InternalApi("internal.sock"), worker)
    app = make_app(settings)
    register(app, builder)
    signals.worker_shutting_down.connect(lambda **_: builder.stop(), weak=False)
    log.info("worker_started", worker=worker, concurrency=settings.build_concurrency)
    app.Worker(
        hostname=f"builder@{worker}",
        pool="threads",
        concurrency=settings.build_concurrency,
        queues=[QUEUE],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    ).start()


def _configure_logs(settings: Settings) -> None:
    """Celery says little, and never what an order holds."""
    level = getattr(logging, settings.log_level.upper(), logging.INFO)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("celery").setLevel(logging.WARNING)
    # These write the arguments of tasks, and that an order goes back to the queue, at levels that are of no use here.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    renderer = structlog.processors.JSONRenderer() if settings.log_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *([structlog.processors.format_exc_info] if settings.log_json else []),
            renderer,
        ],
    )


def _clean(settings: Settings) -> None:
    older_s = settings.install_timeout_s + 5 * settings.fetch_timeout_s + _SPARE_S
    data, cache = settings.data, settings.cache
    many = [path for place in (data / "snapshots", cache / "source") for path in place.glob("*")]
    for folder in (cache, cache / "fetch", data / "environments", *many):
        remove_leftovers(folder, older_s=older_s)


def _look_for_pythons(pythons: Pythons) -> None:
    """Ahead of the first build, which would wait a second for it."""
    try:
        found = pythons.installed(Control())
        log.info("pythons_found", versions=[python.version for python in found])
    except (Stopped, BuildFailed, OSError) as error:
        log.warning("pythons_not_found", reason=str(error))
