"""Whatever is in a repository, a log or a form stays text on our pages."""

from dataclasses import replace

import pytest

from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.space import Problem, SpaceEvent, Variable
from tests.unit.ui.test_render import PAGES, SPACE, Markup, check_rules, client
from tests.unit.ui.world import NOW, World, make_space, stage_world

EVIL = "</title></textarea><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def hostile_world() -> World:
    """Every text that a stranger can set is hostile."""
    world = stage_world(Stage.RUNTIME_ERROR)
    card = {
        "title": EVIL,
        "emoji": EVIL,
        "short_description": EVIL,
        "colorFrom": 'red" onclick="x',
        "base_path": f"/{EVIL}",
    }
    world.spaces[0] = replace(world.spaces[0], card=card, problem=Problem("x", EVIL, f"a/{EVIL}", 3), sdk=EVIL)
    world.files |= {EVIL.replace("/", ""): b"x", "app.py": EVIL.encode(), "assets/" + EVIL.replace("/", ""): b""}
    world.run_lines = world.build_lines = [EVIL]
    world.events = [SpaceEvent(at=NOW, kind="replica lost", text=EVIL)]
    world.set_variables = [Variable(key=EVIL, value=EVIL, description=EVIL)]
    world.set_secrets = [Variable(key=EVIL, value=EVIL, description=EVIL)]
    return world


def known_tags(text: str) -> None:
    markup = check_rules(text)
    assert len(markup.all("script")) <= 1
    assert [tag for tag in markup.all("img") if not str(tag.get("src")).startswith("/static/logo.svg")] == []
    assert "onclick" not in "".join(str(attributes.keys()) for _, attributes in markup.tags)


@pytest.mark.parametrize("path", [*PAGES, "/builds/b1", "/builds/b1/state"])
def test_hostile_texts_stay_texts(path: str) -> None:
    answer = client(hostile_world(), "hf_mira").get(SPACE + path)
    assert answer.status_code == 200
    known_tags(answer.text)


@pytest.mark.parametrize(
    "path", ["/", f"/?search={EVIL}&owner={EVIL}", f"/login?next={EVIL}", f"/{EVIL}", f"/spaces/a/{EVIL}"]
)
def test_hostile_addresses_stay_texts(path: str) -> None:
    known_tags(client(hostile_world()).get(path).text)


@pytest.mark.parametrize("card", [
    {"title": ["a"], "emoji": {"x": 1}, "short_description": 7, "colorFrom": [], "colorTo": None, "base_path": ["/"]},
    {"title": "\u202eevil\u2066 \x00\x1b[31mred", "emoji": "🏳️‍🌈", "base_path": "//evil.example"},
    {"title": "x" * 100_000, "emoji": "x" * 100_000, "short_description": "y" * 100_000},
    {},
])  # fmt: skip
def test_front_matter_of_any_shape_gives_a_page(card: dict[str, object]) -> None:
    world = World()
    world.put(make_space(Stage.RUNNING, card=card))
    for path in ("/", SPACE):
        answer = client(world).get(path)
        assert answer.status_code == 200
        check_rules(answer.text)
        assert not set("\u202e\u2066\x00\x1b") & set(answer.text)


def test_frame_stays_on_the_host_of_the_space() -> None:
    for base_path in ("/chat?x=1", "//evil.example/", "/@evil.example", "evil", "/" + "a" * 600, 7):
        world = World()
        world.put(make_space(Stage.RUNNING, card={"base_path": base_path}))
        frame = Markup(client(world).get(SPACE).text).all("iframe")[0]
        assert str(frame["src"]).startswith("http://mira-whisper-notes.localhost:7878/")
        assert "allow-top-navigation" not in str(frame["sandbox"])
