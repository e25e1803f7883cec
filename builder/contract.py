"""What the orchestrator and the workers say to each other: the only types they share.

An order goes out through Celery as JSON; everything that comes back goes over the internal API with the order's token:

    POST {internal}/internal/builds/{build}/lease      Lease             heartbeat: 200, or 409 when the build is over
    POST {internal}/internal/builds/{build}/phase      PhaseReport
    POST {internal}/internal/builds/{build}/log        LogBatch
    POST {internal}/internal/builds/{build}/result     BuildResult

A 409 means the build was superseded, cancelled or given to another worker: stop at once, report nothing more.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

CONTRACT_VERSION = 1
TASK_NAME = "dormouse.build"


class Phase(StrEnum):
    """Phases of a build, in order."""

    FETCH = "fetch"
    DETECT = "detect"
    PLAN = "plan"
    INSTALL = "install"
    SNAPSHOT = "snapshot"
    REPORT = "report"


@dataclass(frozen=True, kw_only=True)
class BuildOrder:
    """Everything a worker needs to build one commit."""

    version: int
    build_id: str
    space_id: str
    space: str
    """owner/name."""
    owner_id: str
    """Key of caches that must not be shared with other owners."""
    sha: str
    repository_url: str
    """Git address; the token is the password."""
    token: str
    """Works for this build only: fetching this repository and reporting."""
    factory: bool = False

    def to_message(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "BuildOrder":
        """Raises ValueError for a message of another version."""
        if message.get("version") != CONTRACT_VERSION:
            raise ValueError(f"build order of version {message.get('version')!r}, this worker reads {CONTRACT_VERSION}")
        known = {k: v for k, v in message.items() if k in cls.__dataclass_fields__}
        return cls(**known)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a build ended without an image. `stage` is the Hub stage that it leads to."""

    stage: str
    """BUILD_ERROR, CONFIG_ERROR or NO_APP_FILE."""
    code: str
    message: str
    file: str | None = None
    line: int | None = None
    retry: bool = False
    """True where the fault is the platform's (broker, index away), so that another try makes sense."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a runtime needs to start a revision. Its id is a hash of all it is made from."""

    id: str
    kind: str
    """environment (locked environment and snapshot), or static (snapshot only)."""
    sdk: str
    """gradio, streamlit, asgi or static."""
    snapshot: str
    """Folder of the snapshot, relative to the data folder: `snapshots/<space id>/<sha>`."""
    environment: str | None = None
    """Folder of the environment, relative to the data folder: `environments/<id>`."""
    python: str | None = None
    """Python version of the environment, x.y.z."""
    command: tuple[str, ...] = ()
    """Start command inside the sandbox; `{python}` stands for the environment's interpreter."""
    port: int = 7860
    """TCP port that an app listens on that does not take the handed-in socket."""
    start_timeout_s: float | None = None
    """`startup_duration_timeout` of the README."""


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """End of a build: exactly one of `image` and `failure`."""

    image: Image | None = None
    failure: Failure | None = None
    lock: str = ""
    """Resolved requirements with hashes."""
    card: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PhaseReport:
    """A phase began."""

    phase: str
    at: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class LogBatch:
    """Lines of the build log, in order. `first` is the number of the first line, so that a repeat is recognised."""

    first: int
    lines: tuple[tuple[float, str], ...]
    """(time, text) pairs."""
