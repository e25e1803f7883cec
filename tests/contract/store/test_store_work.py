"""Builds, revisions, people, wakes, leases and values."""

import dataclasses

import pytest

from orchestrator.adapters.database.builds import REVISIONS_KEPT
from orchestrator.adapters.database.leases import WAKES_KEPT
from orchestrator.domain.names import BuildId, CommitSha, UserId
from orchestrator.domain.space import BuildStatus, PhaseTime, Problem, Revision
from orchestrator.errors import Conflict, Missing

SHA = CommitSha("a" * 40)


def request(world, space, *, now=10.0, factory=False):
    return world.store.request_build(space.id, SHA, factory=factory, now=now)


# --- builds ---------------------------------------------------------------------------------------------------
def test_a_requested_build_waits(world):
    space = world.building()
    build = request(world, space, factory=True)
    assert (build.status, build.sha, build.created_at, build.attempt) == (BuildStatus.QUEUED, SHA, 10.0, 0)
    assert build.factory
    assert world.store.build(build.id) == build
    assert world.store.builds(space.id) == world.store.unfinished_builds() == [build]
    assert world.store.build(BuildId("nobody")) is None
    with pytest.raises(Missing):
        world.store.request_build("nobody", SHA, factory=False, now=1.0)


def test_a_newer_build_supersedes_the_unfinished_ones_of_its_space(world):
    one, two = world.building("a/one"), world.building("a/two")
    old, other = request(world, one), request(world, two)
    world.store.build_sent(old.id, token_hash="t", now=11.0)
    world.store.build_claimed(old.id, worker="w", lease_until=99.0, now=12.0)
    world.store.build_phase(old.id, "fetch", detail="", now=13.0)
    new = request(world, one, now=20.0)
    ended = world.store.build(old.id)
    assert (ended.status, ended.finished_at) == (BuildStatus.SUPERSEDED, 20.0)
    assert ended.phases == (PhaseTime(name="fetch", started_at=13.0, ended_at=20.0),)
    assert world.store.unfinished_builds() == [other, new]
    assert [build.id for build in world.store.builds(one.id)] == [new.id, old.id]
    assert world.store.builds(one.id, limit=1) == [new]
    assert world.store.build_by_token("t") is None
    assert not world.store.build_claimed(old.id, worker="w", lease_until=99.0, now=21.0)
    assert not world.store.build_finished(old.id, BuildStatus.SUCCEEDED, now=22.0)
    assert not world.store.build_phase(old.id, "detect", detail="", now=22.0)
    assert not world.store.build_sent(old.id, token_hash="t2", now=22.0)
    assert not world.store.build_requeued(old.id, now=22.0)


def test_one_worker_has_a_build_until_it_is_given_back(world):
    build = request(world, world.building())
    claim = world.store.build_claimed
    assert claim(build.id, worker="w1", lease_until=20.0, now=11.0)
    assert claim(build.id, worker="w1", lease_until=30.0, now=15.0)
    assert not claim(build.id, worker="w2", lease_until=40.0, now=16.0)
    running = world.store.build(build.id)
    assert (running.status, running.started_at, running.lease_until, running.attempt) == (
        BuildStatus.RUNNING,
        11.0,
        30.0,
        1,
    )
    assert world.store.build_requeued(build.id, now=31.0)
    assert not world.store.build_requeued(build.id, now=31.0)
    queued = world.store.build(build.id)
    assert (queued.status, queued.lease_until, queued.sent_at, queued.phases) == (BuildStatus.QUEUED, None, None, ())
    assert claim(build.id, worker="w2", lease_until=40.0, now=32.0)
    again = world.store.build(build.id)
    assert (again.attempt, again.started_at) == (2, 11.0)
    assert not claim(BuildId("nobody"), worker="w", lease_until=1.0, now=1.0)


def test_the_token_of_the_latest_sending_opens_the_build_until_it_is_over(world):
    build = request(world, world.building())
    assert world.store.build_sent(build.id, token_hash="first", now=11.0)
    assert world.store.build_sent(build.id, token_hash="second", now=12.0)
    assert world.store.build_by_token("first") is None
    assert world.store.build_by_token("second").sent_at == 12.0
    world.store.build_claimed(build.id, worker="w", lease_until=99.0, now=13.0)
    assert not world.store.build_sent(build.id, token_hash="third", now=14.0)
    assert world.store.build_by_token("second").id == build.id
    world.store.build_finished(build.id, BuildStatus.CANCELLED, now=15.0)
    assert world.store.build_by_token("second") is None


def test_phases_follow_each_other(world):
    build = request(world, world.building())
    for phase, detail, now in (("fetch", "", 11.0), ("install", "a", 12.0), ("install", "b\0", 13.0)):
        assert world.store.build_phase(build.id, phase, detail=detail, now=now)
    problem = Problem("no-wheel", "Pin another version.", "requirements.txt", 2)
    assert world.store.build_finished(build.id, BuildStatus.FAILED, now=14.0, problem=problem)
    ended = world.store.build(build.id)
    assert ended.phases == (
        PhaseTime(name="fetch", started_at=11.0, ended_at=12.0),
        PhaseTime(name="install", started_at=12.0, ended_at=14.0, detail="b"),
    )
    assert (ended.status, ended.finished_at, ended.problem) == (BuildStatus.FAILED, 14.0, problem)
    assert not world.store.build_finished(build.id, BuildStatus.SUCCEEDED, now=15.0)


# --- revisions ------------------------------------------------------------------------------------------------
def revision(space, number):
    return Revision(
        id=f"{space.id}-{number}",
        space_id=space.id,
        sha=SHA,
        title=f"commit {number}",
        created_at=float(number),
        build_id=BuildId("b"),
        image={"id": f"env{number}", "command": ["python", "app.py"]},
        lock="gradio==5",
    )


def test_revisions_come_back_newest_first(world):
    space = world.building()
    one, two = revision(space, 1), revision(space, 2)
    for item in (one, two, dataclasses.replace(one, title="again")):
        world.store.add_revision(item)
    assert world.store.revision(one.id) == one
    assert world.store.revisions(space.id) == [two, one]
    assert world.store.revisions(space.id, limit=1) == [two]
    assert [image["id"] for image in world.store.images_in_use()] == ["env1", "env2"]
    assert world.store.revision("nobody") is None
    with pytest.raises(Missing):
        world.store.add_revision(dataclasses.replace(one, id="x", space_id="nobody"))


def test_old_revisions_go_unless_something_needs_them(world):
    space = world.building()
    world.store.update_space(space.id, revision_id=f"{space.id}-1", good_revision_id=f"{space.id}-2")
    world.replica(space, revision_id=f"{space.id}-3")
    for number in range(REVISIONS_KEPT + 6):
        world.store.add_revision(revision(space, number))
    kept = [int(item.title.split()[1]) for item in world.store.revisions(space.id, limit=100)]
    assert kept == [*range(REVISIONS_KEPT + 5, 5, -1), 3, 2, 1]


# --- people ---------------------------------------------------------------------------------------------------
def test_people(store):
    alice = store.create_user("Alice", full_name="Alice A.", now=5.0)
    root = store.create_user("root", is_admin=True, now=6.0)
    assert (alice.name, alice.full_name, alice.is_admin, alice.created_at) == ("Alice", "Alice A.", False, 5.0)
    assert store.find_user("aLICE") == store.user(alice.id) == alice
    assert store.list_users() == [alice, root]
    assert root.is_admin
    assert store.find_user("bob") is None
    assert store.user(UserId("nobody")) is None
    with pytest.raises(Conflict, match="ALICE"):
        store.create_user("ALICE", now=7.0)


def test_tokens(store):
    alice, bob = store.create_user("alice", now=5.0), store.create_user("bob", now=5.0)
    token = store.add_token(alice.id, token_hash="h1", label="laptop", role="write", now=6.0)
    brief = store.add_token(alice.id, token_hash="h2", label="cli", role="read", now=6.0, expires_at=10.0)
    assert (token.label, token.role, token.created_at, token.expires_at) == ("laptop", "write", 6.0, None)
    assert store.find_token("h1", 7.0) == (token, alice)
    assert store.find_token("h2", 9.9) == (brief, alice)
    assert store.find_token("h2", 10.0) is None
    assert store.find_token("h3", 7.0) is None
    store.revoke_token(bob.id, token.id)
    assert len(store.list_tokens(alice.id)) == 2
    store.revoke_token(alice.id, token.id)
    assert [item.id for item in store.list_tokens(alice.id)] == [brief.id]
    store.add_token(alice.id, token_hash="h4", label="", role="read", now=11.0)
    assert [item.label for item in store.list_tokens(alice.id)] == [""]
    with pytest.raises(Conflict):
        store.add_token(bob.id, token_hash="h4", label="", role="read", now=11.0)
    with pytest.raises(Missing):
        store.add_token(UserId("nobody"), token_hash="h5", label="", role="read", now=11.0)


def test_a_session_ends_with_the_token_that_it_was_made_with(store):
    alice = store.create_user("alice", now=5.0)
    made = [
        store.add_token(alice.id, token_hash=name, label=name, role="write", now=6.0, expires_at=ends)
        for name, ends in (("laptop", None), ("brief", 10.0), ("kept", None))
    ]
    for token in made:
        store.add_token(
            alice.id, token_hash=f"s-{token.label}", label="session", role="write", now=7.0, parent_id=token.id
        )
    found = store.find_token("s-laptop", 8.0)
    assert found is not None
    assert (found[0].parent_id, found[0].is_session, made[0].is_session) == (made[0].id, True, False)
    store.revoke_token(alice.id, made[0].id)
    assert store.find_token("s-laptop", 8.0) is None
    with pytest.raises(Missing):
        store.add_token(alice.id, token_hash="late", label="session", role="write", now=9.0, parent_id=made[0].id)
    store.add_token(alice.id, token_hash="other", label="other", role="read", now=11.0)
    assert {token.label for token in store.list_tokens(alice.id)} == {"kept", "session", "other"}
    store.delete_user("alice")
    assert store.find_token("s-kept", 12.0) is None


def test_the_use_of_a_token_is_noted_now_and_then(store):
    alice = store.create_user("alice", now=5.0)
    store.add_token(alice.id, token_hash="h", label="", role="read", now=6.0)
    for now, noted in ((1000.0, 1000.0), (1010.0, 1000.0), (2000.0, 2000.0)):
        store.find_token("h", now)
        assert store.list_tokens(alice.id)[0].last_used_at == noted


def test_a_user_goes_with_all_tokens_but_not_while_it_owns_spaces(world):
    store = world.store
    alice = store.create_user("Alice", now=5.0)
    store.add_token(alice.id, token_hash="h", label="", role="read", now=6.0)
    world.space("alice/app")
    with pytest.raises(Conflict):
        store.delete_user("ALICE")
    bob = store.create_user("bob", now=5.0)
    store.add_token(bob.id, token_hash="hb", label="", role="read", now=6.0)
    store.delete_user("Bob")
    assert store.find_user("bob") is None
    assert store.find_token("hb", 7.0) is None
    assert store.find_token("h", 7.0) is not None
    with pytest.raises(Missing):
        store.delete_user("bob")


# --- wakes, leases, values ------------------------------------------------------------------------------------
def test_wakes_are_remembered_newest_first(world):
    space = world.space()
    for number in range(WAKES_KEPT + 5):
        world.store.record_wake(space.id, took_s=float(number), now=1.0)
    assert world.store.recent_wakes(space.id, limit=2) == [WAKES_KEPT + 4.0, WAKES_KEPT + 3.0]
    assert len(world.store.recent_wakes(space.id, limit=1000)) == WAKES_KEPT
    assert world.store.recent_wakes("nobody") == []
    with pytest.raises(Missing):
        world.store.record_wake("nobody", took_s=1.0, now=1.0)


def test_a_lease_has_one_holder_and_a_number_that_rises(store):
    def take(holder, now, name="controller"):
        return store.take_lease(name, holder, ttl_s=10.0, now=now)

    assert take("a", 100.0) == 1
    assert take("a", 105.0) == 1
    assert take("b", 114.9) is None
    assert take("b", 115.0) == 2
    assert take("a", 116.0) is None
    store.drop_lease("controller", "a")
    assert take("a", 117.0) is None
    store.drop_lease("controller", "b")
    assert take("a", 118.0) == 3
    assert take("b", 118.0, name="other") == 1


def test_values(store):
    assert store.get_value("samples") is None
    store.set_value("samples", "1")
    store.set_value("samples", "2")
    assert store.get_value("samples") == "2"


def test_a_build_that_the_broker_did_not_take_is_sent_again_at_once(world):
    store, space = world.store, world.space()
    build = store.request_build(space.id, SHA, factory=False, now=1.0)
    assert store.build_sent(build.id, token_hash="one", now=2.0)
    store.build_not_sent(build.id)
    found = store.build(build.id)
    assert found is not None
    assert found.sent_at is None
    assert store.build_by_token("one") is None, "the token of an order that nobody has opens nothing"


def test_old_builds_are_forgotten_but_not_those_of_kept_revisions(world):
    store, space = world.store, world.space()
    made = []
    for number in range(5):
        build = store.request_build(space.id, SHA, factory=False, now=float(number))
        store.build_finished(build.id, BuildStatus.FAILED, now=float(number))
        made.append(build.id)
    store.add_revision(
        Revision(id="r", space_id=space.id, sha=SHA, title="", created_at=1.0, build_id=made[0], image={})
    )
    assert set(store.forget_old_builds(space.id, keep=2)) == {made[1], made[2]}
    assert [build.id for build in store.builds(space.id)] == [made[4], made[3], made[0]]
    assert list(store.forget_old_builds(space.id, keep=2)) == []
