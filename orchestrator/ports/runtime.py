"""What runs replicas. Each verb states whether it may be repeated and how long it may block."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.domain.names import ReplicaId


@dataclass(frozen=True, kw_only=True)
class ReplicaSpec:
    """Everything a runtime needs to start one replica."""

    replica_id: ReplicaId
    space_id: str
    space: str
    """owner/name."""
    image: Mapping[str, Any]
    """`builder.contract.Image` as a mapping."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables and decrypted secrets of the Space and the platform's own; never logged."""
    memory_mb: int = 2048
    processes_max: int = 512
    files_max: int = 4096
    disk_mb: int = 1024
    egress: str = "proxy"
    start_timeout_s: float = 1800.0


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A replica as the runtime sees it."""

    replica_id: ReplicaId
    space_id: str
    state: str
    """starting, ready or ended."""
    address: str = ""
    since: float = 0.0
    exit_code: int | None = None
    """128 + n for signal n."""
    reason: str = ""
    """Why it ended where the runtime knows: memory-limit, start-timeout, exited, could-not-start."""
    detail: str = ""
    """A sentence for people."""


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """What separates replicas from each other and from Dormouse, for start-up, `doctor` and the admin page."""

    name: str
    level: str
    """full, reduced or none."""
    features: Mapping[str, str]
    """feature -> `on`, or why it is off and what that means."""


class Runtime(Protocol):
    async def start(self, spec: ReplicaSpec) -> None:
        """Begin to start a replica; returns once the runtime has taken it, not when it answers.

        Repeatable: a replica of that id that exists already is left alone. Raises Unavailable.
        """
        ...

    async def stop(self, replica_id: ReplicaId, grace_s: float = 10.0) -> None:
        """End a replica: TERM, then KILL after the grace. Silent if it is gone. Returns when it has ended."""
        ...

    async def list(self) -> Sequence[Observed]:
        """Everything this runtime holds, ended ones included until they are forgotten. Raises Unavailable."""
        ...

    async def forget(self, replica_id: ReplicaId) -> None:
        """Drop the record of an ended replica. Silent if unknown."""
        ...

    def watch(self) -> AsyncIterator[Observed]:
        """Changes as they happen. Ends or raises Unavailable when the runtime goes away; pair with `list`."""
        ...

    async def isolation(self) -> Isolation: ...


class StaticSites(Protocol):
    """Serves the snapshots of static Spaces without a replica."""

    def publish(self, host: str, snapshot: str) -> str:
        """Serve `snapshot` (relative to the data folder) under `host`, replacing in one step; returns the address."""
        ...

    def withdraw(self, host: str) -> None:
        """Stop serving `host`. Silent if unknown."""
        ...
