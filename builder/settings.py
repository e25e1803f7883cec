"""The worker's settings, read from the environment once.

The names are those of the installation (`DORMOUSE_` and the field in capitals), which checks them before it starts a
worker; a value that cannot be read is refused here all the same. Nothing else in this package reads settings from
`os.environ`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a worker needs to know."""

    data: Path = Path()
    """Folder that holds all state; environments, snapshots and caches are made in it."""
    build_concurrency: int = 2
    """Builds at the same time."""
    build_lease_s: float = 30.0
    """A build whose worker is silent for so long is given to another."""
    fetch_timeout_s: float = 300.0
    """Deadline of the fetch, detect, plan, snapshot and report phases, each."""
    install_timeout_s: float = 1800.0
    """Deadline of the install phase."""
    build_log_bytes_max: int = 8 << 20
    """A build log is cut past this size."""
    snapshot_bytes_max: int = 2 << 30
    """Largest sum of file sizes of one revision."""
    snapshot_files_max: int = 50_000
    """Largest number of files of one revision."""
    source_bytes_max: int = 8 << 30
    """Disk that source builds of one owner may take, their cache included; a single file may take half of it."""
    wheels: str = ""
    """Extra folder of wheels offered to resolution; empty means none."""
    python_downloads: bool = True
    """Whether a Python that is not installed may be fetched."""
    sandbox: str = "auto"
    """auto, bubblewrap, or none (trusted code only: source builds run without isolation)."""
    egress: str = "proxy"
    """Way out of a source build: proxy, none or host."""
    log_level: str = "info"
    log_json: bool = False
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The process environment, from which the few variables are taken that uv and git may see."""

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def cache(self) -> Path:
        return self.data / "cache"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Raises ValueError naming the variable that cannot be read."""
    environ = dict(os.environ) if environ is None else environ
    values: dict[str, object] = {"environ": environ}
    for item in fields(Settings):
        text = environ.get(f"DORMOUSE_{item.name.upper()}")
        if text is None or item.name == "environ":
            continue
        try:
            values[item.name] = _convert(item.type, text)
        except ValueError as error:
            raise ValueError(f"DORMOUSE_{item.name.upper()}={text!r} cannot be used: {error}") from error
    if "data" not in values:
        raise ValueError("DORMOUSE_DATA is not set: name the data folder of the installation.")
    return Settings(**values)  # type: ignore[arg-type]


def _convert(kind: object, text: str) -> object:
    if kind is bool:
        return text.strip().lower() in ("1", "true", "yes", "on")
    if kind is Path:
        return Path(text).expanduser().absolute()
    return {int: int, float: float}[kind](text) if kind in (int, float) else text
