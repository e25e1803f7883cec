"""The database, as the flows need it. It is the truth; everything else is derived from it.

All methods block for a short time only (call them through `asyncio.to_thread` in async code). Each is one
transaction. Methods that change a Space's stage go through `lifecycle.advance`, write the history and raise
ImpossibleTransition for an event that cannot be. `now` is always given by the caller.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import BuildId, CommitSha, ReplicaId, SpaceName, UserId
from orchestrator.domain.space import (
    Build,
    BuildStatus,
    Gateway,
    Problem,
    Replica,
    Revision,
    Route,
    RouteMode,
    Space,
    SpaceEvent,
    Token,
    User,
    Variable,
)


class Store(Protocol):
    # --- people -----------------------------------------------------------------------------------------------
    def create_user(self, name: str, *, full_name: str = "", is_admin: bool = False, now: float) -> User:
        """Raises Conflict if the name is taken."""
        ...

    def find_user(self, name: str) -> User | None: ...

    def user(self, user_id: UserId) -> User | None: ...

    def list_users(self) -> Sequence[User]: ...

    def delete_user(self, name: str) -> None:
        """Remove a user and all its tokens. Raises Missing, and Conflict while it owns Spaces."""
        ...

    def add_token(
        self,
        user_id: UserId,
        *,
        token_hash: str,
        label: str,
        role: str,
        now: float,
        expires_at: float | None = None,
        parent_id: str | None = None,
    ) -> Token:
        """With `parent_id` it is a session made with that token, and ends with it; raises Missing if that is gone."""
        ...

    def find_token(self, token_hash: str, now: float) -> tuple[Token, User] | None:
        """The token with that hash, unless it has expired."""
        ...

    def list_tokens(self, user_id: UserId) -> Sequence[Token]: ...

    def revoke_token(self, user_id: UserId, token_id: str) -> None:
        """Remove it, and the sessions that were made with it."""
        ...

    # --- Spaces -----------------------------------------------------------------------------------------------
    def create_space(
        self,
        name: SpaceName,
        *,
        sdk: str,
        domain: str,
        created_by: UserId,
        visibility: str,
        now: float,
        sleep_time_s: int | None = None,
    ) -> Space:
        """A new Space without a commit, in stage NO_APP_FILE, with a host name of its own.

        Raises Conflict if the name exists (compared without regard to case).
        """
        ...  # fmt: skip

    def find_space(self, name: SpaceName) -> Space | None: ...

    def space(self, space_id: str) -> Space | None: ...

    def space_by_host(self, host: str) -> Space | None: ...

    def list_spaces(
        self,
        *,
        owner: str | None = None,
        search: str | None = None,
        sort: str = "updated_at",
        limit: int = 100,
        after: tuple[float, str] | None = None,
        visible_to: UserId | None = None,
        everything: bool = False,
    ) -> Sequence[Space]:
        """Newest first by `sort` (updated_at or created_at). `after` is the (sort value, id) of the last one seen."""
        ...  # fmt: skip

    def spaces_in(self, stages: Iterable[Stage]) -> Sequence[Space]: ...

    def count_by_stage(self) -> Mapping[Stage, int]: ...

    def update_space(self, space_id: str, **fields: Any) -> Space:
        """Set plain fields (card, sdk, problem, sleep_time_s, visibility, ...); raises Missing."""
        ...

    def happen(
        self,
        space_id: str,
        event: Event,
        *,
        now: float,
        text: str = "",
        expect: int | None = None,
        **fields: Any,
    ) -> Space:
        """Apply `event` to the Space's stage, set `fields`, write the history; returns the Space after it.

        A commit and a restart forget the problem and the back-off, another revision and falling asleep the back-off.
        `fields` win over that. A visit that changes nothing leaves no trace.

        With `expect` the change is made only while the Space's generation is still that; raises Conflict otherwise.
        Events that change what is wanted raise the generation: commit, restart, pause, delete, the visit that wakes,
        and a build that brings another revision.
        """
        ...

    def fall_asleep(self, space_id: str, host: str, *, expect: int, now: float) -> bool:
        """Withdraw the DRAIN route of generation `expect` and apply IDLE, both or neither.

        False, with nothing changed, if the route has moved on, or the Space's stage no longer lets it sleep.
        """
        ...

    def lose_replica(self, space_id: str, replica_id: ReplicaId, *, now: float, text: str) -> Space | None:
        """Remove a replica that ended by itself, withdraw the route that leads to it, and apply REPLICA_LOST if
        there was one. The Space after it; None if the replica is unknown."""
        ...

    def replica_ready(self, replica_id: ReplicaId, address: str, *, now: float, grace_s: float) -> Route | None:
        """A replica answers: mark it READY, point its Space's host at it, apply REPLICA_READY, and let the Space's
        other READY replicas end `grace_s` from now.

        None if it is not wanted (any more); if it is known, it is marked STOPPING, so that it makes room for the one
        that is. That is so for a paused, sleeping or deleted Space; where the newest revision is to start, for a
        replica of another revision or of an older generation; and elsewhere for one of another revision than
        `Space.revision_id` while something serves. Leaves the count of failures: that it answers once proves little.
        """
        ...

    def forget_space(self, space_id: str) -> None:
        """Remove the row of a Space in stage DELETING and all that belongs to it. Silent if it is gone."""
        ...

    def history(self, space_id: str, limit: int = 50) -> Sequence[SpaceEvent]:
        """Newest first."""
        ...

    def touch(self, active: Mapping[str, float], moved: Mapping[str, float]) -> None:
        """Raise last_active_at / last_moved_at of the Spaces with these host names; never lowers them."""
        ...

    # --- variables and secrets --------------------------------------------------------------------------------
    def variables(self, space_id: str) -> Sequence[Variable]: ...

    def secrets(self, space_id: str) -> Sequence[Variable]: ...

    def set_variable(self, space_id: str, variable: Variable, *, secret: bool) -> None: ...

    def delete_variable(self, space_id: str, key: str, *, secret: bool) -> bool:
        """Whether it was there."""
        ...

    # --- builds and revisions ---------------------------------------------------------------------------------
    def request_build(self, space_id: str, sha: CommitSha, *, factory: bool, now: float) -> Build:
        """Queue a build of `sha`; every other unfinished build of the Space becomes SUPERSEDED."""
        ...

    def build(self, build_id: BuildId) -> Build | None: ...

    def builds(self, space_id: str, limit: int = 20) -> Sequence[Build]:
        """Newest first."""
        ...

    def unfinished_builds(self) -> Sequence[Build]:
        """Queued and running ones, oldest first."""
        ...

    def build_sent(self, build_id: BuildId, *, token_hash: str, now: float) -> bool:
        """Note that a queued build was handed to the broker; False if it is no longer queued."""
        ...

    def build_not_sent(self, build_id: BuildId) -> None:
        """The broker did not take a queued build: it is to be sent again at once, with another token."""
        ...

    def forget_old_builds(self, space_id: str, *, keep: int) -> Sequence[BuildId]:
        """Remove finished builds beyond the newest `keep`, except those of kept revisions; returns which."""
        ...

    def build_by_token(self, token_hash: str) -> Build | None:
        """The unfinished build that this worker token belongs to."""
        ...

    def build_claimed(self, build_id: BuildId, *, worker: str, lease_until: float, now: float) -> bool:
        """Queued or already held by the same worker -> RUNNING with a lease; False if another has it or it is over."""
        ...

    def build_phase(self, build_id: BuildId, phase: str, *, detail: str, now: float) -> bool:
        """Close the running phase and open `phase`; False if the build is over."""
        ...

    def build_requeued(self, build_id: BuildId, *, now: float) -> bool:
        """Give a running build back to the queue: its lease ran out, or its worker could not finish it."""
        ...

    def build_finished(
        self, build_id: BuildId, status: BuildStatus, *, now: float, problem: Problem | None = None
    ) -> bool:
        """End an unfinished build; False if it was over already."""
        ...

    def add_revision(self, revision: Revision) -> None: ...

    def revision(self, revision_id: str) -> Revision | None: ...

    def revisions(self, space_id: str, limit: int = 20) -> Sequence[Revision]: ...

    def images_in_use(self) -> Sequence[Mapping[str, Any]]:
        """Images of every kept revision."""
        ...

    # --- replicas and routes ----------------------------------------------------------------------------------
    def add_replica(self, replica: Replica) -> bool:
        """Insert; False if a replica of that id exists, the Space has one starting already, wants none (it is gone,
        paused or being deleted), or is of a newer generation than the replica."""
        ...

    def update_replica(self, replica_id: ReplicaId, **fields: Any) -> None: ...

    def remove_replica(self, replica_id: ReplicaId) -> None: ...

    def replicas(self, space_id: str | None = None) -> Sequence[Replica]: ...

    def route(self, host: str) -> Route | None: ...

    def routes(self, after: int = 0) -> Sequence[Route]:
        """Routes changed after that generation (GONE ones included), oldest change first."""
        ...

    def route_horizon(self) -> int:
        """Changes up to this generation may have been forgotten: a gateway behind it needs everything anew."""
        ...

    def serve(self, space: Space, replica: Replica, *, now: float) -> Route:
        """Point the Space's host at the replica, whatever its route is now (draining and withdrawn ones too)."""
        ...

    def change_route(self, host: str, *, expect: int, mode: RouteMode, now: float) -> Route | None:
        """Compare-and-set on the route's generation; None if it has moved on.

        SERVE -> DRAIN or GONE, DRAIN -> SERVE or GONE; the mode that it has already changes nothing.
        """
        ...

    def prune_routes(self, before: float) -> None:
        """Forget GONE routes older than that time."""
        ...

    def gateway_seen(self, gateway_id: str, *, acked: int | None, quiet: Mapping[str, int], now: float) -> None:
        """Note a sign of life of a gateway; `acked` None keeps the last one.

        `quiet` adds to what it said before; an entry is dropped when the drain that it speaks of is over.
        """
        ...

    def gateways(self, alive_after: float) -> Sequence[Gateway]: ...

    # --- wakes, leases, values --------------------------------------------------------------------------------
    def record_wake(self, space_id: str, *, took_s: float, now: float) -> None: ...

    def recent_wakes(self, space_id: str, limit: int = 10) -> Sequence[float]:
        """Durations in seconds, newest first."""
        ...

    def take_lease(self, name: str, holder: str, *, ttl_s: float, now: float) -> int | None:
        """Take or keep a lease; its fencing number (rises with each change of holder), or None if another has it."""
        ...

    def drop_lease(self, name: str, holder: str) -> None: ...

    def get_value(self, key: str) -> str | None: ...

    def set_value(self, key: str, value: str) -> None: ...
