"""When a Space may be put to sleep. Pure: the time is an argument."""

from dataclasses import dataclass

from orchestrator.domain.space import NEVER


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Last signs of use, in seconds since 1970."""

    ready_at: float
    """When the replica began to serve: the clock starts there at the earliest."""
    active_at: float
    """Last time a request began or any stream was open."""
    moved_at: float
    """Last time a request began or a stream moved more than keep-alives."""


@dataclass(frozen=True, kw_only=True)
class IdlePolicy:
    sleep_after_s: int
    """Idle seconds until sleep; NEVER keeps awake."""
    idle_tab_s: int
    """Longer limit after which streams that carry nothing but keep-alives no longer count as use."""
    reported_within_s: float = 0.0
    """So much later, at the latest, every gateway has reported what happened."""


@dataclass(frozen=True)
class KeepAwake:
    until: float | None
    """When to look again; None for ever."""


@dataclass(frozen=True)
class FallAsleep:
    why: str


def decide_idle(activity: Activity, policy: IdlePolicy, now: float) -> KeepAwake | FallAsleep:
    """Whether the Space has been idle long enough.

    An open stream counts as use, until it has moved nothing but keep-alives for the longer of both limits: a tab left
    open over the weekend does not keep a Space awake.
    """
    if policy.sleep_after_s == NEVER:
        return KeepAwake(None)
    quiet_since = max(activity.active_at, activity.ready_at)
    still_since = max(activity.moved_at, activity.ready_at)
    tab_limit = max(policy.idle_tab_s, policy.sleep_after_s)
    due, tab_due = quiet_since + policy.sleep_after_s, still_since + tab_limit
    if now >= due:
        return FallAsleep(f"no request for {round(now - quiet_since)} s")
    if now >= tab_due:
        return FallAsleep(f"only idle tabs for {round(now - still_since)} s")
    return KeepAwake(min(due, tab_due))
