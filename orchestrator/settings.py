"""Every setting, read from the environment once, typed and checked together.

Nothing else reads settings from `os.environ`. Durations carry their unit in the name. `load()` reports every problem
at once, and `unknown()` the variables that no part of Dormouse reads, which are most often misspelled.
"""

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from orchestrator.errors import Invalid


def _default_data() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "dormouse"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one installation. Each field's variable is `DORMOUSE_` + its name in capitals."""

    data: Path = field(default_factory=_default_data)
    """Folder that holds all state."""
    port: int = 7878
    """Port of the one public listener."""
    bind: str = "127.0.0.1"
    """Address that the public listener binds to; 0.0.0.0 publishes Dormouse on the network."""
    domain: str = "localhost"
    """Host name under which pages and API answer."""
    apps_domain: str = ""
    """Domain below which every Space has its host name; empty means the same as `domain`."""
    admin_token: str = ""
    """Token of the user `admin` at the first start; empty makes one up."""
    samples: bool = True
    """Publish the bundled samples at the first start."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_json: bool = False
    """Machine-readable log lines instead of coloured ones."""

    sleep_time_s: int = 3600
    """Idle seconds after which a Space that has no sleep time of its own is put to sleep; -1 means never."""
    idle_tab_s: int = 6 * 3600
    """Second, longer limit: past it streams that move no more than keep-alives do not keep a Space awake."""
    activity_interval_s: float = 2.0
    """How often Envoy reports requests in progress."""
    start_timeout_s: int = 1800
    """Longest start before a Space is an error; `startup_duration_timeout` of the README overrides it."""
    hold_timeout_s: float = 120.0
    """Longest time one request is held for a wake."""
    hold_requests_max: int = 1000
    """Requests held at the same time, over all Spaces, per gateway."""
    wake_rate_per_s: float = 4.0
    """Wakes admitted per second; beyond it they wait in line, owners in turn."""
    wake_burst: int = 8
    """Wakes admitted at once before the rate counts."""

    build_concurrency: int = 2
    """Builds that one worker runs at the same time."""
    build_lease_s: float = 30.0
    """A build whose worker is silent for so long is given to another."""
    fetch_timeout_s: float = 300.0
    """Deadline of the fetch, detect, plan, snapshot and report phases, each."""
    install_timeout_s: float = 1800.0
    """Deadline of the install phase."""
    build_log_bytes_max: int = 8 << 20
    """A build log is cut past this size."""
    repo_bytes_max: int = 1 << 30
    """Largest push that is accepted, in bytes."""
    snapshot_bytes_max: int = 2 << 30
    """Largest sum of file sizes of one revision."""
    snapshot_files_max: int = 50_000
    """Largest number of files of one revision."""
    source_bytes_max: int = 8 << 30
    """Disk that source builds of one owner may take, their cache included; a single file may take half of it."""
    wheels: str = ""
    """Extra folder of wheels (find-links) offered to resolution; empty means none."""
    python_downloads: bool = True
    """Whether a `python_version` that is not installed may be fetched."""

    memory_mb: int = 2048
    """Memory of one replica; past it the replica is ended and the log says so."""
    processes_max: int = 512
    """Processes and threads of one replica."""
    files_max: int = 4096
    """Open files of one process of a replica."""
    disk_mb: int = 1024
    """Size of /tmp and of the home folder of one replica, each; they and the working folder are held in its memory."""
    egress: str = "proxy"
    """Way out of a Space: proxy (filtered HTTP and HTTPS), none, or host (unfiltered, shares the network)."""
    egress_allow: str = ""
    """Comma-separated networks (CIDR) that the proxy may reach though they are not public."""
    sandbox: str = "auto"
    """auto, bubblewrap, or none (no isolation; for trusted code only)."""

    @property
    def own_domain(self) -> str:
        return self.domain

    @property
    def spaces_domain(self) -> str:
        return self.apps_domain or self.domain

    @property
    def run(self) -> Path:
        """Sockets and process state; short-lived."""
        return self.data / "run"

    @property
    def local_host(self) -> str:
        """Address under which this machine reaches the public listener, whatever the name service says; no brackets."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)  # noqa: S104 - compared, not bound to

    @property
    def local_url(self) -> str:
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"http://{host}:{self.port}"

    @property
    def public_url(self) -> str:
        return f"http://{self.domain}:{self.port}"

    def host_url(self, host: str) -> str:
        """Address of a Space by its host name."""
        return f"http://{host}:{self.port}"


_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def _parse(kind: object, text: str) -> object:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError("write 1 or 0")
    if kind is int or kind is float:
        return _number(kind, text)
    if kind is Path:
        return Path(text).expanduser().absolute()
    return text


def _number(kind: object, text: str) -> float:
    try:
        if kind is int:
            return int(text)
        number = float(text)
    except ValueError:
        raise ValueError("write a whole number" if kind is int else "write a number") from None
    if not math.isfinite(number):
        raise ValueError("write a number")
    return number


_CHOICES = {
    "egress": ("proxy", "none", "host"),
    "sandbox": ("auto", "bubblewrap", "none"),
    "log_level": ("debug", "info", "warning", "error"),
}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (the process environment by default).

    Raises Invalid with one line per problem, each naming the variable and its value.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    problems: list[str] = []
    for item in fields(Settings):
        name = f"DORMOUSE_{item.name.upper()}"
        if name not in environ:
            continue
        try:
            values[item.name] = _parse(item.type, environ[name])
        except ValueError as error:
            problems.append(f"{name}={environ[name]!r}: {error}")
        choices = _CHOICES.get(item.name)
        if choices and environ[name] not in choices:
            problems.append(f"{name}={environ[name]!r}: write one of {', '.join(choices)}")
    settings = Settings(**values) if not problems else Settings()  # type: ignore[arg-type]
    if not 1 <= settings.port <= 65535:
        problems.append(f"DORMOUSE_PORT={settings.port}: write a port from 1 to 65535")
    if problems:
        raise Invalid("These settings cannot be used:\n  " + "\n  ".join(problems))
    return settings


_READ_ELSEWHERE = frozenset(("DORMOUSE_URL", "DORMOUSE_TOKEN", "DORMOUSE_RUN", "DORMOUSE_GOLDEN"))
"""Variables of the command line, of git's hooks and of the tests."""


def unknown(environ: Mapping[str, str]) -> list[str]:
    """A line for each DORMOUSE_ variable that nothing reads, naming the one that was probably meant."""
    known = [f"DORMOUSE_{item.name.upper()}" for item in fields(Settings)]
    lines = []
    for name in sorted(environ):
        if not name.startswith("DORMOUSE_") or name.startswith("DORMOUSE_TEST_") or name in _READ_ELSEWHERE:
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            lines.append(
                f"{name} is no setting" + (f": perhaps {near[0]} was meant." if near else " and has no effect.")
            )
    return lines
