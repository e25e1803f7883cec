"""When a Space may be put to sleep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.idle import Activity, FallAsleep, IdlePolicy, KeepAwake, decide_idle
from orchestrator.domain.space import NEVER

POLICY = IdlePolicy(sleep_after_s=60, idle_tab_s=600)


def activity(ready: float = 0.0, active: float = 0.0, moved: float = 0.0) -> Activity:
    return Activity(ready_at=ready, active_at=active, moved_at=moved)


def test_idle_since_the_last_request() -> None:
    assert decide_idle(activity(active=1000, moved=1000), POLICY, 1059.9) == KeepAwake(1060)
    assert isinstance(decide_idle(activity(active=1000, moved=1000), POLICY, 1060), FallAsleep)


def test_a_replica_that_was_never_asked_counts_from_when_it_was_ready() -> None:
    assert isinstance(decide_idle(activity(ready=1000), POLICY, 1059), KeepAwake)
    assert isinstance(decide_idle(activity(ready=1000), POLICY, 1060), FallAsleep)


def test_an_open_tab_keeps_awake_only_until_the_longer_limit() -> None:
    now = 2000.0
    open_tab = activity(ready=1000, active=now, moved=1401)
    assert decide_idle(open_tab, POLICY, now) == KeepAwake(2001)
    verdict = decide_idle(activity(ready=1000, active=2001, moved=1401), POLICY, 2001)
    assert isinstance(verdict, FallAsleep)
    assert "idle tabs" in verdict.why


def test_the_tab_limit_is_never_shorter_than_the_sleep_time() -> None:
    policy = IdlePolicy(sleep_after_s=7200, idle_tab_s=600)
    assert isinstance(decide_idle(activity(active=5000, moved=0), policy, 5001), KeepAwake)


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9))
def test_never_means_never(ready: float, active: float, moved: float, now: float) -> None:
    policy = IdlePolicy(sleep_after_s=NEVER, idle_tab_s=1)
    assert decide_idle(activity(ready, active, moved), policy, now) == KeepAwake(None)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 10_000), st.integers(1, 100_000))
def test_the_time_to_look_again_is_the_time_of_the_verdict(
    active: float, moved: float, sleep_after: int, tab: int
) -> None:
    policy = IdlePolicy(sleep_after_s=sleep_after, idle_tab_s=tab)
    used = activity(active=max(active, moved), moved=moved)
    verdict = decide_idle(used, policy, 0.0)
    if isinstance(verdict, FallAsleep):
        pytest.fail("nothing can have been idle for a second at time 0")
    assert verdict.until is not None
    assert isinstance(decide_idle(used, policy, verdict.until), FallAsleep)
