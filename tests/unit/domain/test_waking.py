"""Who may start next."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.waking import Ask, Bucket, admit, back_off_s, estimate_s, line_up

asks = st.lists(
    st.builds(
        Ask,
        space_id=st.text("abcdef0123456789", min_size=4, max_size=4),
        owner=st.sampled_from(["ann", "bob", "eve"]),
        asked_at=st.floats(0, 100),
        visitor=st.booleans(),
    ),
    unique_by=lambda ask: ask.space_id,
    max_size=40,
)


def ask(space: str, owner: str, at: float, visitor: bool = True) -> Ask:
    return Ask(space_id=space, owner=owner, asked_at=at, visitor=visitor)


def test_owners_take_turns() -> None:
    storm = [ask(f"s{n}", "storm", n) for n in range(10)]
    line = line_up([*storm, ask("quiet", "other", 50)])
    assert [item.space_id for item in line][:3] == ["s0", "quiet", "s1"]


def test_visitors_go_before_starts_after_a_build() -> None:
    line = line_up([ask("build", "ann", 1, visitor=False), ask("visit", "ann", 99)])
    assert [item.space_id for item in line] == ["visit", "build"]


@given(asks)
def test_nobody_is_lost_or_doubled(waiting: list[Ask]) -> None:
    assert sorted(a.space_id for a in line_up(waiting)) == sorted(a.space_id for a in waiting)


@given(asks)
def test_each_owners_own_order_is_kept(waiting: list[Ask]) -> None:
    line = line_up(waiting)
    for owner in ("ann", "bob", "eve"):
        for visitor in (True, False):
            times = [a.asked_at for a in line if a.owner == owner and a.visitor is visitor]
            assert times == sorted(times)


@given(asks, st.lists(st.floats(0, 5), max_size=20))
def test_the_rate_is_never_passed(waiting: list[Ask], waits: list[float]) -> None:
    bucket, now, admitted, left = Bucket(rate=2.0, burst=3, tokens=3.0, at=0.0), 0.0, 0, list(waiting)
    for wait in waits:
        now += wait
        passed, bucket = admit(left, bucket, now)
        left = [item for item in left if item not in passed]
        admitted += len(passed)
        assert admitted <= 3 + 2.0 * now + 1e-6


def test_back_off_grows_and_is_bounded() -> None:
    assert [back_off_s(n) for n in (0, 1, 2, 3)] == [0.0, 0.5, 1.0, 2.0]
    assert back_off_s(50) == 30.0


def test_estimate_is_the_median() -> None:
    assert estimate_s([]) is None
    assert estimate_s([9.0, 1.0, 2.0]) == 2.0
