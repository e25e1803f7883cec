"""What the runtime saw of a replica -> ready and routed, failed to start, or lost."""

from dataclasses import dataclass
from typing import Any

import structlog

from orchestrator.domain.lifecycle import Event
from orchestrator.domain.names import ReplicaId
from orchestrator.domain.space import Problem, Replica, Space
from orchestrator.domain.waking import CRASH_TRIES, STABLE_S, START_TRIES, back_off_s
from orchestrator.flows.context import Tools
from orchestrator.flows.tell import happen_if_possible
from orchestrator.ports import signals

log = structlog.get_logger()
REPLACED_GRACE_S = 20.0
"""A replaced replica lives on for so long, so that requests in progress on it end by themselves."""


@dataclass(frozen=True)
class Became:
    """Outcome for the metrics."""

    outcome: str
    waited_s: float | None = None
    """From the visit to the start of the replica: the line in front of the runtime."""
    started_s: float | None = None
    """From there to its first answer."""


def replica_ready(tools: Tools, space: Space, replica: Replica, address: str, *, now: float) -> Became:
    """Send visitors to the replica. A replica that is no longer wanted is left for the planner to stop."""
    route = tools.store.replica_ready(replica.id, address, now=now, grace_s=REPLACED_GRACE_S)
    if route is None:
        return Became("unwanted")
    tools.signals.send_soon(signals.ROUTES)
    waited = max(0.0, replica.started_at - space.wake_asked_at) if space.wake_asked_at else None
    started = now - replica.started_at
    # The count of failures stays as it is: only a replica that lives for STABLE_S has proven itself.
    tools.store.update_space(space.id, wake_asked_at=None, sleep_asked_at=None, good_revision_id=replica.revision_id)
    tools.store.record_wake(space.id, took_s=(waited or 0.0) + started, now=now)
    tools.signals.send_soon(signals.space_channel(space.id), "changed")
    log.info("replica_ready", space=space.full_name, replica=replica.id, took_s=round(started, 3))
    return Became("ready", waited, started)


def start_failed(tools: Tools, space: Space, replica: Replica, reason: str, detail: str, *, now: float) -> Became:
    """Try again after a pause; give up after START_TRIES, or at once where another try cannot help.

    When it gives up and an older revision has answered before, that one is what the next wake starts.
    """
    tools.store.remove_replica(ReplicaId(replica.id))
    failures = space.start_failures + 1
    log.warning("start_failed", space=space.full_name, replica=replica.id, reason=reason, tries=failures)
    if failures < START_TRIES and reason != "start-timeout":
        tools.store.update_space(space.id, start_failures=failures, start_not_before=now + back_off_s(failures))
        tools.signals.send_soon(signals.CONTROLLER, space.id)
        return Became("retry")
    problem = Problem(reason or "exited", detail or "The app ended before it answered. Its log says why.")
    fields: dict[str, Any] = {"problem": problem, "start_failures": 0, "wake_asked_at": None}
    if space.good_revision_id and space.good_revision_id != replica.revision_id:
        fields["revision_id"] = space.good_revision_id
    _happen(tools, space, Event.START_FAILED, f"failed to start: {problem.message}", now=now, **fields)
    return Became("failed")


def replica_lost(tools: Tools, space: Space, replica: Replica, reason: str, detail: str, *, now: float) -> Became:
    """Withdraw its route; start again after a pause, unless it keeps dying."""
    lived = now - (replica.ready_at or now)
    after = tools.store.lose_replica(space.id, replica.id, now=now, text=f"replica ended: {detail or reason}")
    tools.signals.send_soon(signals.ROUTES)
    tools.signals.send_soon(signals.CONTROLLER, space.id)
    if after is None or reason == "vanished":
        return Became("gone")
    failures = 1 if lived >= STABLE_S else space.start_failures + 1
    log.warning("replica_lost", space=space.full_name, replica=replica.id, reason=reason, lived_s=round(lived, 1))
    tools.store.update_space(space.id, start_failures=failures, start_not_before=now + back_off_s(failures - 1))
    if failures >= CRASH_TRIES:
        text = f"{detail or 'The app ended.'} It ended {failures} times in a row, so it is not started again."
        problem = Problem(reason or "crash-loop", text)
        _happen(tools, space, Event.START_FAILED, "ended too often", now=now, problem=problem, start_failures=0)
        return Became("failed")
    return Became("lost")


def _happen(tools: Tools, space: Space, event: Event, text: str, *, now: float, **fields: Any) -> None:
    happen_if_possible(tools, space, event, text, now=now, **fields)
    tools.signals.send_soon(signals.space_channel(space.id), "changed")
