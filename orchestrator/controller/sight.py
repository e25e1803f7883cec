"""What the runtime shows, merged from its watch and its listing.

A listing is a picture of the past when it arrives: entries that changed after it was asked for are kept. A replica's
state only moves forward (starting, ready, ended), so a late message cannot turn it back.
"""

from collections.abc import Sequence

from orchestrator.domain.names import ReplicaId
from orchestrator.domain.plan import Seen
from orchestrator.ports.runtime import Observed

_ORDER = {"starting": 0, "ready": 1, "ended": 2}


class Sight:
    """The controller's knowledge of the runtime."""

    def __init__(self) -> None:
        self._seen: dict[ReplicaId, Seen] = {}
        self._changed_at: dict[ReplicaId, float] = {}
        self._space_of: dict[ReplicaId, str] = {}
        self._strikes: dict[ReplicaId, int] = {}
        self._known = False

    @property
    def seen(self) -> dict[ReplicaId, Seen] | None:
        """None until the runtime has answered once, and while it does not answer."""
        return self._seen if self._known else None

    def lost_contact(self) -> None:
        """The runtime does not answer: nothing may be concluded from a replica's absence."""
        self._known = False

    def started(self, replica_id: ReplicaId, space_id: str, now: float) -> None:
        """The runtime has taken a replica that no listing shows yet."""
        self._seen.setdefault(replica_id, Seen(state="starting"))
        self._space_of[replica_id] = space_id
        self._changed_at[replica_id] = now

    def changed(self, observed: Observed, now: float) -> None:
        """A message of the watch."""
        before = self._seen.get(observed.replica_id)
        self._changed_at[observed.replica_id] = now
        self._space_of[observed.replica_id] = observed.space_id
        if before is None or _ORDER[observed.state] >= _ORDER[before.state]:
            self._seen[observed.replica_id] = _seen(observed)

    def listed(self, replicas: Sequence[Observed], asked_at: float) -> set[str]:
        """A listing that was asked for at that time; returns the Spaces for which something changed."""
        fresh = {item.replica_id: _seen(item) for item in replicas}
        kept = {k: v for k, v in self._seen.items() if self._changed_at.get(k, 0.0) >= asked_at}
        touched = {k for k in fresh.keys() | self._seen.keys() if k not in kept and fresh.get(k) != self._seen.get(k)}
        self._space_of |= {item.replica_id: item.space_id for item in replicas}
        spaces = {self._space_of[k] for k in touched if k in self._space_of}
        self._seen = fresh | kept
        self._space_of = {k: v for k, v in self._space_of.items() if k in self._seen}
        self._changed_at = {k: v for k, v in self._changed_at.items() if k in self._seen}
        self._known = True
        return spaces

    def orphans(self, wanted: set[ReplicaId]) -> tuple[list[ReplicaId], list[ReplicaId]]:
        """Replicas that the database does not want: (to stop, to forget). A living one is stopped at a second look."""
        strange = {k: v for k, v in self._seen.items() if k not in wanted}
        self._strikes = {k: self._strikes.get(k, 0) + 1 for k in strange}
        stop = [k for k, v in strange.items() if v.state != "ended" and self._strikes[k] >= 2]
        forget = [k for k, v in strange.items() if v.state == "ended"]
        return stop, forget


def _seen(observed: Observed) -> Seen:
    return Seen(state=observed.state, address=observed.address, reason=observed.reason, detail=observed.detail)
