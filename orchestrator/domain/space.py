"""The facts that decisions are made of. All frozen; times are seconds since 1970, UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import BuildId, CommitSha, ReplicaId, SpaceName, UserId

NEVER = -1
"""Sleep time that means: stay awake."""


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, and what to do: shown unchanged on pages, in git's output and in the API."""

    code: str
    """Short constant, for instance `bad-front-matter`, `memory-limit`."""
    message: str
    """One or two sentences that say what is wrong and what to write or do instead."""
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return where + self.message


@dataclass(frozen=True, kw_only=True)
class Space:
    """One registered Space: a row, whatever it does."""

    id: str
    owner: str
    name: str
    host: str
    """Full host name under which visitors reach it; lower case, unique, stored once."""
    stage: Stage
    stage_since: float
    sdk: str = ""
    """gradio, streamlit, static, asgi or docker; empty until known."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Front matter of the newest commit's README."""
    sha: CommitSha | None = None
    """Newest commit of `main`."""
    problem: Problem | None = None
    """Why the newest commit does not run; kept while an older one serves or sleeps."""
    revision_id: str | None = None
    """The revision that runs when the Space runs: the newest one with an image, or, after that one failed to start,
    the one before it that answered."""
    good_revision_id: str | None = None
    """Newest revision that has ever answered."""
    sleep_asked_at: float | None = None
    """When the owner asked to put it to sleep now; None once it sleeps or a visit came."""
    visibility: str = "public"
    sleep_time_s: int | None = None
    """Idle seconds until sleep; None takes the installation's default, NEVER stays awake."""
    generation: int = 0
    """Rises with each wanted change; a stale actor's work is refused by it."""
    start_failures: int = 0
    """Failed or lost replicas in a row; decides the back-off."""
    start_not_before: float = 0.0
    """Back-off: no new replica before this time."""
    wake_asked_at: float | None = None
    """When the visit came that the current start answers, for the wake histogram."""
    last_active_at: float = 0.0
    """Last time a request began or any stream was open."""
    last_moved_at: float = 0.0
    """Last time a request began or a stream moved more than keep-alives."""
    created_at: float = 0.0
    updated_at: float = 0.0
    created_by: UserId

    @property
    def space_name(self) -> SpaceName:
        return SpaceName(self.owner, self.name)

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def title(self) -> str:
        return str(self.card.get("title") or self.name)[:200]


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One commit that was built: what runs when the Space runs."""

    id: str
    space_id: str
    sha: CommitSha
    title: str
    """First line of the commit message."""
    created_at: float
    build_id: BuildId
    image: Mapping[str, Any]
    """`builder.contract.Image` as a mapping."""
    lock: str = ""
    """Resolved requirements with hashes."""


class BuildStatus(StrEnum):
    QUEUED = "queued"
    """Waits for a worker."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """A newer commit made it pointless."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class PhaseTime:
    """One phase of a build or wake; `ended_at` is None while it runs."""

    name: str
    started_at: float
    ended_at: float | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One attempt to make a revision of a commit."""

    id: BuildId
    space_id: str
    sha: CommitSha
    status: BuildStatus
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    phases: tuple[PhaseTime, ...] = ()
    problem: Problem | None = None
    attempt: int = 0
    """How many workers have taken it so far."""
    sent_at: float | None = None
    """When it was last handed to the broker."""
    lease_until: float | None = None
    """Until when the worker that has it is believed to live."""
    factory: bool = False
    """Built without any cache."""


class ReplicaState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One running copy of a revision."""

    id: ReplicaId
    space_id: str
    revision_id: str
    state: ReplicaState
    generation: int = 0
    """The Space's generation that asked for it; a restart wants a replica of a newer one."""
    address: str = ""
    """Where the gateway reaches it: `unix:PATH` (relative to the run folder) or `tcp:IP:PORT`."""
    started_at: float = 0.0
    ready_at: float | None = None
    stop_after: float | None = None
    """A replaced replica is stopped at this time, so that its last requests end by themselves."""


class RouteMode(StrEnum):
    SERVE = "serve"
    DRAIN = "drain"
    """The marker stands: new requests are held, old ones end on the replica."""
    GONE = "gone"
    """Withdrawn; kept for a while so that gateways hear of it."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where requests for a host go. Only awake Spaces have one; everything else is held."""

    host: str
    space_id: str
    mode: RouteMode
    address: str
    replica_id: ReplicaId | None
    generation: int
    """Position in the one order of all route changes."""
    since: float = 0.0
    private: bool = True
    """Whether the Space is private, so that each visitor has to show who he is."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """One Envoy and the agent beside it, as last heard of."""

    id: str
    acked: int
    """Every route change up to this generation is in force there."""
    seen_at: float
    quiet: Mapping[str, int] = field(default_factory=dict)
    """host -> generation of the DRAIN route for which nothing is in progress there any more."""


@dataclass(frozen=True, kw_only=True)
class User:
    id: UserId
    name: str
    full_name: str = ""
    is_admin: bool = False
    created_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token; only its hash is stored."""

    id: str
    user_id: UserId
    label: str
    role: str
    """read or write."""
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None
    parent_id: str | None = None
    """The token that a browser signed in with, if this is its session; the session ends with it."""

    @property
    def is_session(self) -> bool:
        """A session of a browser, which is believed in a cookie and nowhere else."""
        return self.parent_id is not None


@dataclass(frozen=True, kw_only=True)
class Variable:
    key: str
    value: str
    """For a secret: the encrypted value."""
    description: str = ""
    updated_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SpaceEvent:
    """One entry of a Space's history."""

    at: float
    kind: str
    text: str
