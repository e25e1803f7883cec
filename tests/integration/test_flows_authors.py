"""What authors ask for at odd moments: pushes that collide, restarts, Spaces that cannot be made."""

import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import CommitSha, SpaceName
from orchestrator.domain.space import BuildStatus, Problem, Space, Variable
from orchestrator.errors import Invalid, Unavailable
from orchestrator.flows import life, receive_commit
from orchestrator.flows.create_space import create_space
from orchestrator.flows.request_build import request_build
from orchestrator.flows.status import status
from orchestrator.ports.repositories import TreeEntry
from tests.support.flow_world import SHA, Repositories, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_push_whose_hook_was_cut_off_is_picked_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    space = world.new()
    seen: list[str] = []
    monkeypatch.setattr(receive_commit, "receive_commit", lambda _, space, now: seen.append(space.id))
    notes = world.tools.settings.data / "received"
    notes.mkdir()
    (notes / space.id).touch()
    (notes / "no-such-space").touch()
    assert receive_commit.pick_up_pushes(world.tools, now=time.time()) == 0, "the hook may still be asking"
    assert receive_commit.pick_up_pushes(world.tools, now=time.time() + 60) == 2
    assert (seen, list(notes.iterdir())) == ([space.id], [])


def test_a_push_that_cannot_be_picked_up_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = world.new("bad"), world.new("good")
    seen: list[str] = []

    def receive(_: object, space: Space, now: float) -> None:
        if space.id == bad.id:
            raise Invalid("this one cannot be read")
        seen.append(space.id)

    monkeypatch.setattr(receive_commit, "receive_commit", receive)
    notes = world.tools.settings.data / "received"
    notes.mkdir()
    for space in (bad, good):
        (notes / space.id).touch()
    assert receive_commit.pick_up_pushes(world.tools, now=time.time() + 60) == 1
    assert (seen, [note.name for note in notes.iterdir()]) == ([good.id], [bad.id])


class OneCommit(Repositories):
    """`main` moves to the next head with each look, until the last."""

    def __init__(self, *heads: CommitSha, files: int = 1, readme: str = "") -> None:
        self.heads, self.files, self.readme = list(heads), files, readme

    def resolve(self, space_id: str, revision: str) -> CommitSha:
        return self.heads.pop(0) if len(self.heads) > 1 else self.heads[0]

    def tree(self, space_id: str, revision: str, path: str = "", *, recursive: bool = False) -> list[TreeEntry]:
        if not self.files:
            raise Invalid("There is more than can be listed.")
        names = ("index.html", "README.md") if self.readme else ("index.html",)
        return [TreeEntry(path=name, kind="file", oid="c" * 40, size=1) for name in names]

    def read(self, space_id: str, oid: str, *, limit: int) -> bytes:
        return self.readme.encode()


def test_of_two_pushes_at_once_the_newer_one_is_built(world: World) -> None:
    older, newer = CommitSha("b" * 40), CommitSha("d" * 40)
    space = world.new(sdk="static")
    world.tools.repositories = OneCommit(older, newer)
    after = receive_commit.receive_commit(world.tools, space, now=time.time()).space
    assert (after.sha, world.store.builds(space.id)[0].sha) == (newer, newer)


def test_a_commit_that_is_too_large_to_be_listed_says_so(world: World) -> None:
    space = world.new()
    world.tools.repositories = OneCommit(CommitSha("b" * 40), files=0)
    received = receive_commit.receive_commit(world.tools, space, now=time.time())
    assert received.space.stage is Stage.CONFIG_ERROR
    assert "Take files out of the commit" in "\n".join(received.lines)


def test_a_push_hears_of_every_mistake_on_a_line_of_its_own(world: World) -> None:
    space = world.new()
    readme = "---\nsdk: gardio\ntitle: [a]\napp_port: no\n---\n"
    world.tools.repositories = OneCommit(CommitSha("b" * 40), readme=readme)
    received = receive_commit.receive_commit(world.tools, space, now=time.time())
    told = [line.split(": ")[0].split()[-1] for line in received.lines if "README.md:" in line]
    assert told == ["README.md:2", "README.md:3", "README.md:4"]
    problem = received.space.problem
    assert problem is not None
    assert (problem.line, problem.message.endswith("(and 2 more)")) == (2, True)


def test_a_push_hears_of_keys_that_nothing_reads(world: World) -> None:
    space = world.new(sdk="static")
    world.tools.repositories = OneCommit(CommitSha("b" * 40), readme="---\nsdk: static\ntilte: x\n---\n")
    received = receive_commit.receive_commit(world.tools, space, now=time.time())
    (line,) = [line for line in received.lines if "Warning" in line]
    assert "README.md:3: nothing reads `tilte` (perhaps `title`)" in line
    assert "Progress:" in received.lines[-2]


@pytest.mark.parametrize(
    "wrong", [{"sleep_time_s": 0}, {"sleep_time_s": -5}, {"secrets": [Variable(key="1 bad", value="x")]}]
)
def test_a_space_that_cannot_be_made_as_asked_is_not_made(world: World, wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        create_space(world.tools, world.user, SpaceName("ann", "half"), sdk="gradio", now=time.time(), **wrong)
    assert world.store.find_space(SpaceName("ann", "half")) is None


def test_a_space_without_a_repository_gives_its_name_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(world.tools.repositories, "create", full)
    with pytest.raises(Unavailable):
        world.new("half")
    half = world.store.find_space(SpaceName("ann", "half"))
    assert half is not None
    assert half.stage is Stage.DELETING


async def test_a_restart_builds_the_commit_that_came_while_it_was_paused(world: World) -> None:
    newer, space = CommitSha("b" * 40), await world.run(world.new("paused"))
    life.pause(world.tools, space, now=time.time())
    await world.turn(space)
    space = request_build(world.tools, world.look(space), newer, now=time.time(), text="two", fields={"sha": newer})
    assert space.stage is Stage.PAUSED
    assert life.restart(world.tools, space, factory=False, now=time.time()).stage is Stage.BUILDING
    assert world.store.builds(space.id)[0].sha == newer


async def test_a_space_that_was_paused_before_its_first_build_can_be_restarted(world: World) -> None:
    space = request_build(world.tools, world.new("early"), SHA, now=time.time(), text="one", fields={"sha": SHA})
    space = life.pause(world.tools, space, now=time.time())
    assert life.restart(world.tools, space, factory=False, now=time.time()).stage is Stage.BUILDING


async def test_a_restart_during_a_build_does_not_lose_the_commit(world: World) -> None:
    newer, space = CommitSha("b" * 40), await world.run(world.new("hasty"))
    space = request_build(world.tools, space, newer, now=time.time(), text="two", fields={"sha": newer})
    space = life.restart(world.tools, space, factory=False, now=time.time())
    assert space.stage is Stage.RUNNING_BUILDING
    space = world.built(space)
    revision = world.store.revision(space.revision_id or "")
    assert revision is not None
    assert revision.sha == newer


async def test_a_restart_ends_a_start_that_hangs(world: World) -> None:
    space = request_build(world.tools, world.new("hangs"), SHA, now=time.time(), text="one", fields={"sha": SHA})
    await world.turn(space)
    world.built(space)
    space = await world.turn(space)
    (hung,) = world.store.replicas(space.id)
    life.restart(world.tools, space, factory=False, now=time.time())
    await world.turn(space)
    await world.turn(space)
    assert world.runtime.stopped == [hung.id]
    (fresh,) = world.store.replicas(space.id)
    assert fresh.generation == world.look(space).generation


async def test_a_variable_set_after_a_failed_start_starts_the_newest_revision(world: World) -> None:
    newer, space = CommitSha("b" * 40), await world.run(world.new("needs-a-key"))
    old = space.revision_id
    request_build(world.tools, space, newer, now=time.time(), text="two", fields={"sha": newer})
    space = world.built(space)
    newest = space.revision_id
    space = world.store.happen(
        space.id, Event.START_FAILED, now=time.time(), problem=Problem("exited", "no key"), revision_id=old
    )
    assert space.stage is Stage.RUNTIME_ERROR
    space = life.set_variable(world.tools, space, Variable(key="KEY", value="x"), secret=True, now=time.time())
    assert space.revision_id == newest


def test_between_two_rows_a_build_does_not_seem_to_wait_again(world: World) -> None:
    space = world.new()
    request_build(world.tools, space, SHA, now=time.time(), text="commit")
    build = world.store.builds(space.id)[0]
    assert status(world.tools, world.look(space), now=time.time()).phase == "queued"
    world.store.build_finished(build.id, BuildStatus.SUCCEEDED, now=time.time() + 1)
    assert status(world.tools, world.look(space), now=time.time() + 1).phase == "report"


def test_a_start_waits_for_a_place_only_if_there_is_a_line(world: World) -> None:
    spaces = [world.new(f"app{number}") for number in range(2)]
    for space in spaces:
        request_build(world.tools, space, SHA, now=time.time(), text="commit")
    world.built(spaces[0])
    later = time.time() + 5
    assert status(world.tools, world.look(spaces[0]), now=later).phase == "starting", "it is alone"
    world.built(spaces[1])
    assert status(world.tools, world.look(spaces[1]), now=time.time()).phase == "starting", "it has just come"
    assert status(world.tools, world.look(spaces[1]), now=later).phase == "waiting for a place"
