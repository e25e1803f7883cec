"""Who may start next, and what a failed start means. Pure.

Admission is a token bucket in front of the runtime. When more want to start than it admits, owners take turns, and
visitors' wakes go before starts that follow a build: a storm of one owner does not slow another's wake.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.space import Space


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One Space that wants to start."""

    space_id: str
    owner: str
    asked_at: float
    visitor: bool
    """Somebody waits for the page, as against a start after a build."""


def ask_of(space: Space) -> Ask:
    """What a Space that is about to start asks for."""
    visitor = space.wake_asked_at is not None
    return Ask(space_id=space.id, owner=space.owner, asked_at=space.wake_asked_at or space.stage_since, visitor=visitor)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Token bucket: `rate` starts per second, at most `burst` at once."""

    rate: float
    burst: int
    tokens: float
    at: float

    def filled(self, now: float) -> "Bucket":
        tokens = min(self.burst, self.tokens + max(0.0, now - self.at) * self.rate)
        return replace(self, tokens=tokens, at=now)


def line_up(asks: Sequence[Ask]) -> list[Ask]:
    """The order of the line: visitors first; within each group owners in turn, each owner's oldest first."""
    line: list[Ask] = []
    for visitor in (True, False):
        by_owner: dict[str, list[Ask]] = {}
        for ask in sorted((a for a in asks if a.visitor is visitor), key=lambda a: (a.asked_at, a.space_id)):
            by_owner.setdefault(ask.owner, []).append(ask)
        rounds = max((len(queue) for queue in by_owner.values()), default=0)
        line += [queue[turn] for turn in range(rounds) for queue in by_owner.values() if turn < len(queue)]
    return line


def admit(asks: Sequence[Ask], bucket: Bucket, now: float) -> tuple[list[Ask], Bucket]:
    """Those that may start now, and the bucket after them. The rest stays in line in the order of `line_up`."""
    bucket = bucket.filled(now)
    line = line_up(asks)
    count = min(len(line), int(bucket.tokens))
    return line[:count], replace(bucket, tokens=bucket.tokens - count)


START_TRIES = 3
"""Failed starts in a row after which a Space becomes RUNTIME_ERROR."""
CRASH_TRIES = 5
"""Lost replicas in a row, none of which lived STABLE_S, after which it does."""
STABLE_S = 60.0
"""A replica that lived so long has proven itself: the count of failures begins anew."""


def back_off_s(failures: int) -> float:
    """Seconds to wait before the next start after so many failures in a row: 0.5, 1, 2, ... 30."""
    return float(min(30.0, 0.5 * 2 ** max(0, failures - 1))) if failures > 0 else 0.0


def estimate_s(recent_s: Sequence[float]) -> float | None:
    """Expected seconds of the next wake: the median of the recent ones; None without any."""
    if not recent_s:
        return None
    ordered = sorted(recent_s)
    return ordered[len(ordered) // 2]
