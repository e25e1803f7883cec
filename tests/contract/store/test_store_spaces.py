"""Registered Spaces: names, hosts, fields, lists, variables."""

import dataclasses
import datetime as dt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import SpaceName, UserId
from orchestrator.domain.space import Problem, Variable
from orchestrator.errors import Bug, Conflict, Invalid, Missing


def test_a_new_space(world):
    space = world.store.create_space(
        SpaceName("Alice", "My.App"),
        sdk="gradio",
        domain="apps.example.org",
        created_by=UserId("u1"),
        visibility="private",
        now=5.0,
        sleep_time_s=60,
    )
    assert (space.stage, space.stage_since, space.host) == (Stage.NO_APP_FILE, 5.0, "alice-my-app.apps.example.org")
    assert (space.created_at, space.updated_at, space.created_by) == (5.0, 5.0, "u1")
    assert (space.visibility, space.sleep_time_s, space.sdk, space.generation) == ("private", 60, "gradio", 0)
    assert space == world.store.space(space.id) == world.store.space_by_host("Alice-My-App.apps.example.org")
    assert space == world.store.find_space(SpaceName("aLICE", "mY.aPP"))
    assert world.store.find_space(SpaceName("alice", "other")) is None


def test_a_name_is_taken_whatever_its_case(world):
    world.space("alice/app")
    with pytest.raises(Conflict, match="ALICE/App"):
        world.space("ALICE/App")


def test_hosts_that_would_clash_differ(world):
    first, second, third = (world.space(name) for name in ("a-b/c", "a/b-c", "a/b.c"))
    assert first.host == "a-b-c.localhost"
    assert second.host.startswith("a-b-c-")
    assert len({first.host, second.host, third.host}) == 3
    assert world.store.space_by_host(second.host) == second


def test_fields_are_set_and_come_back(world):
    space = world.space()
    problem = Problem("bad-front-matter", "Write a colon.", "README.md", 3)
    fields = {
        "sdk": "static",
        "card": {"title": "Hi", "tags": ["a"], "n": 1.5},
        "sha": "c" * 40,
        "problem": problem,
        "revision_id": "r1",
        "good_revision_id": "r0",
        "sleep_asked_at": 9.5,
        "visibility": "private",
        "sleep_time_s": -1,
        "start_failures": 2,
        "start_not_before": 8.5,
        "wake_asked_at": 7.5,
        "last_active_at": 6.5,
        "last_moved_at": 5.5,
        "updated_at": 4.5,
    }
    after = world.store.update_space(space.id, **fields)
    assert after == dataclasses.replace(space, **fields) == world.get(space)
    assert world.store.update_space(space.id) == after
    assert world.store.update_space(space.id, problem=None).problem is None


def test_every_field_that_may_be_set_is_a_field_of_a_space(world):
    with pytest.raises(Bug, match="stage"):
        world.store.update_space(world.space().id, stage=Stage.RUNNING)
    with pytest.raises(Missing):
        world.store.update_space("nobody", sdk="gradio")


def test_a_strangers_card_is_stored_as_plain_json(world):
    card = {"when": dt.date(2024, 1, 2), 3: float("inf"), "text": "nul\0 \ud800", "deep": [{"x": {1}}]}
    after = world.store.update_space(world.space().id, card=card, problem=Problem("x", "nul\0 \ud800"))
    assert after.card == {"when": "2024-01-02", "3": None, "text": "nul ?", "deep": [{"x": [1]}]}
    assert after.problem.message == "nul ?"


def test_a_card_without_end_is_cut(world):
    card: dict[str, object] = {}
    inner = card
    for _ in range(500):
        inner["x"] = inner = {}
    assert world.store.update_space(world.space().id, card=card).card["x"]


def test_touch_raises_and_never_lowers(world):
    one, two = world.space("a/one"), world.space("a/two")
    world.store.touch({one.host: 50.0, "unknown": 60.0}, {one.host: 40.0})
    world.store.touch({one.host: 45.0, two.host: 1.0}, {one.host: 41.0})
    assert (world.get(one).last_active_at, world.get(one).last_moved_at) == (50.0, 41.0)
    assert (world.get(two).last_active_at, world.get(two).last_moved_at) == (1.0, 0.0)
    world.store.touch({}, {})


def test_stages_are_counted_and_listed(world):
    world.space("a/one")
    two = world.building("a/two")
    counts = world.store.count_by_stage()
    assert set(counts) == set(Stage)
    assert (counts[Stage.NO_APP_FILE], counts[Stage.BUILDING], counts[Stage.RUNNING]) == (1, 1, 0)
    assert world.store.spaces_in([Stage.BUILDING, Stage.RUNNING]) == [two]
    assert world.store.spaces_in([]) == []


# --- lists ----------------------------------------------------------------------------------------------------
def names(spaces):
    return [space.full_name for space in spaces]


def test_the_newest_come_first(world):
    for name in ("a/one", "a/two", "b/three"):
        world.space(name)
    assert names(world.store.list_spaces()) == ["b/three", "a/two", "a/one"]
    world.store.update_space(world.store.find_space(SpaceName("a", "one")).id, updated_at=9e9)
    assert names(world.store.list_spaces()) == ["a/one", "b/three", "a/two"]
    assert names(world.store.list_spaces(sort="created_at")) == ["b/three", "a/two", "a/one"]
    assert names(world.store.list_spaces(owner="A", limit=1)) == ["a/one"]
    with pytest.raises(Invalid, match="updated_at"):
        world.store.list_spaces(sort="id")


def test_search_looks_at_owner_name_and_title(world):
    one = world.space("alice/Chat_bot")
    world.space("bob/chatXbot")
    world.store.update_space(one.id, card={"title": "Größe 100%"})
    for text in ("ALICE", "chat_", "größe", "100%", "e/C"):
        assert names(world.store.list_spaces(search=text)) == ["alice/Chat_bot"], text
    assert len(world.store.list_spaces(search="bot")) == 2
    assert world.store.list_spaces(search="nothing\0") == []


def test_private_spaces_are_for_those_who_may_see_them(world):
    admin = world.store.create_user("root", is_admin=True, now=1.0)
    alice = world.store.create_user("Alice", now=1.0)
    bob = world.store.create_user("bob", now=1.0)
    world.space("alice/secret", visibility="private", created_by=admin.id)
    world.space("team/made-by-bob", visibility="private", created_by=bob.id)
    world.space("bob/own", visibility="private", created_by=bob.id)
    world.space("alice/open", created_by=alice.id)

    def seen(user_id, **more):
        return names(world.store.list_spaces(visible_to=user_id, **more))

    assert seen(None) == seen(UserId("stranger")) == ["alice/open"]
    assert seen(alice.id) == ["alice/open", "alice/secret"]
    assert seen(bob.id) == ["alice/open", "bob/own", "team/made-by-bob"]
    everything = ["alice/open", "bob/own", "team/made-by-bob", "alice/secret"]
    assert seen(admin.id) == seen(None, everything=True) == everything
    assert seen(None, owner="alice") == ["alice/open"]
    assert seen(alice.id, owner="alice") == ["alice/open", "alice/secret"]
    assert seen(bob.id, search="own", limit=1) == ["bob/own"]


def test_a_space_that_is_being_deleted_is_listed_for_the_admins_page_alone(world):
    space = world.space("a/gone")
    world.store.happen(space.id, Event.DELETE, now=5.0)
    assert world.store.list_spaces() == []
    assert names(world.store.list_spaces(everything=True)) == ["a/gone"]


@pytest.mark.parametrize("sort", ["updated_at", "created_at"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 4), st.sampled_from(["public", "private"])),
        max_size=12,
    ),
    size=st.integers(1, 5),
)
def test_pages_together_are_the_sorted_list(world, sort, rows, size):
    for old in world.store.list_spaces(everything=True, limit=1000):
        world.store.happen(old.id, Event.DELETE, now=1.0)
        world.store.forget_space(old.id)
    spaces = []
    for number, (owner, at, visibility) in enumerate(rows):
        space = world.space(f"{owner}/s{number}", visibility=visibility)
        spaces.append(world.store.update_space(space.id, updated_at=float(at)))
    visible = [space for space in spaces if space.visibility == "public"]
    expected = sorted(visible, key=lambda space: (getattr(space, sort), space.id), reverse=True)
    collected, after = [], None
    while page := world.store.list_spaces(sort=sort, limit=size, after=after):
        assert len(page) <= size
        collected += page
        after = (getattr(page[-1], sort), page[-1].id)
    assert collected == expected


# --- variables ------------------------------------------------------------------------------------------------
def test_variables_and_secrets_are_apart(world):
    space = world.space()
    token = Variable(key="TOKEN", value="sealed", description="for the API", updated_at=5.0)
    plain = Variable(key="TOKEN", value="plain", updated_at=6.0)
    other = Variable(key="A", value="1", updated_at=7.0)
    world.store.set_variable(space.id, token, secret=True)
    world.store.set_variable(space.id, plain, secret=False)
    world.store.set_variable(space.id, other, secret=False)
    assert world.store.secrets(space.id) == [token]
    assert world.store.variables(space.id) == [other, plain]
    newer = dataclasses.replace(token, value="other", updated_at=8.0)
    world.store.set_variable(space.id, newer, secret=True)
    assert world.store.secrets(space.id) == [newer]
    assert world.store.delete_variable(space.id, "TOKEN", secret=True)
    assert not world.store.delete_variable(space.id, "TOKEN", secret=True)
    assert len(world.store.variables(space.id)) == 2
    with pytest.raises(Missing):
        world.store.set_variable("nobody", plain, secret=False)
