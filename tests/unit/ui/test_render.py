"""Every page, from every stage that a Space can be in, for strangers, owners and administrators."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

from orchestrator.domain.lifecycle import ERRORS, VISITOR, Answer, Stage
from orchestrator.domain.space import NEVER, BuildStatus, PhaseTime, Problem
from orchestrator.errors import Unavailable
from orchestrator.ports.runtime import Isolation
from orchestrator.web.ui import words
from tests.unit.ui.world import NOW, SERVING, World, make_app, make_build, make_context, make_space, stage_world

SPACE = "/spaces/mira/whisper-notes"
PAGES = (
    "",
    "/status",
    "/logs",
    "/logs?kind=build",
    "/builds",
    "/tree/main",
    "/tree/main/assets",
    "/blob/main/app.py",
    "/settings",
)
CASES = [
    (stage, serving) for stage in Stage for serving in (False, True) if serving is (stage in SERVING) or stage in ERRORS
]
PAGE_BYTES_MAX = 60_000


class Markup(HTMLParser):
    """What a page is made of, as far as rules are checked."""

    VOID = frozenset(("meta", "link", "input", "img", "br"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inline += [f"<{tag} {name}>" for name, _ in attrs if name == "style" or name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style") and data.strip():
            self.inline.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def client(world: World, token: str = "") -> TestClient:
    headers = {"accept": "text/html"} | ({"authorization": f"Bearer {token}"} if token else {})
    return TestClient(make_app(make_context(world)), base_url="http://localhost:7878", headers=headers)


def check_rules(text: str) -> Markup:
    """The rules of every page: well-formed, nothing inline, nothing from elsewhere, every field has a name."""
    markup = Markup(text)
    assert markup.open == []
    assert markup.inline == []
    loaded = [value for tag, attributes in markup.tags for name, value in attributes.items()
              if name == "src" or (tag == "link" and name == "href")]  # fmt: skip
    assert [address for address in loaded if address and not address.startswith(("/static/", "http://mira-"))] == []
    ids = [attributes["id"] for _, attributes in markup.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = {attributes.get("for") for attributes in markup.all("label")}
    for kind in ("input", "textarea", "select"):
        for attributes in markup.all(kind):
            if attributes.get("type") not in ("hidden", "radio", "checkbox"):
                assert attributes.get("id") in labels, attributes
    assert len(text.encode()) < PAGE_BYTES_MAX
    return markup


@pytest.mark.parametrize(("stage", "serving"), CASES)
@pytest.mark.parametrize("path", PAGES)
def test_every_page_of_a_space_renders_in_every_stage(stage: Stage, serving: bool, path: str) -> None:
    answer = client(stage_world(stage, serving=serving), "hf_mira").get(SPACE + path)
    assert answer.status_code == (404 if stage is Stage.DELETING else 200)
    markup = check_rules(answer.text)
    if path != "/status":
        assert len(markup.all("h1")) == 1
        assert len(markup.all("main")) == 1


@pytest.mark.parametrize(("stage", "serving"), [case for case in CASES if case[0] is not Stage.DELETING])
def test_app_page_says_what_is_the_case_and_what_comes_next(stage: Stage, serving: bool) -> None:
    world = stage_world(stage, serving=serving)
    for token in ("", "hf_mira"):
        text = client(world, token).get(SPACE).text
        for label, _ in words.badges(stage, serving=serving, problem=stage in ERRORS):
            assert label in text
        assert words.next_step(stage, serving=serving, may_write=bool(token)) in text
        assert ("<template" not in text) == (serving or VISITOR[stage] in (Answer.WAIT, Answer.WAKE))
        assert text.count("<iframe") == 1


def test_words_cover_every_stage_and_every_build_status() -> None:
    assert set(words.WORDS) == set(Stage)
    assert set(words.OUTCOMES) == {status.value for status in BuildStatus}


def test_error_of_a_newer_commit_is_shown_beside_the_running_app() -> None:
    text = client(stage_world(Stage.BUILD_ERROR, serving=True), "hf_mira").get(SPACE).text
    assert "Running" in text
    assert "Newest commit: build failed" in text
    assert "requirements.txt:3" in text
    assert "/blob/" + "a3f9c1d2" * 5 + "/requirements.txt#L3" in text
    assert "<template" not in text


def test_what_a_message_has_between_backticks_is_code_and_still_text() -> None:
    world = stage_world(Stage.CONFIG_ERROR)
    problem = Problem("x", "`sdk: <b>` is unknown. Write `gradio`, not a lone `.", "README.md", 4)
    world.spaces[0] = replace(world.spaces[0], problem=problem)
    text = client(world).get(SPACE).text
    assert "<code>sdk: &lt;b&gt;</code> is unknown. Write <code>gradio</code>, not a lone `." in text


def test_sleeping_space_keeps_the_problem_of_its_newest_commit_in_sight() -> None:
    world = World()
    world.put(make_space(Stage.SLEEPING, problem=stage_world(Stage.CONFIG_ERROR).spaces[0].problem))
    text = client(world).get(SPACE).text
    assert "Asleep" in text
    assert "Newest commit: problem" in text
    assert "<template" not in text


def test_phase_line_names_phase_start_and_place_in_line() -> None:
    world = stage_world(Stage.BUILDING)
    text = client(world).get(SPACE + "/status").text
    assert "Installing packages" in text
    assert "41 packages, 38 in the cache" in text
    assert 'data-moving="1"' in text
    ahead = make_build(BuildStatus.QUEUED, id="b0", space_id="other", created_at=NOW - 99)
    world.all_builds = [make_build(BuildStatus.QUEUED), ahead]
    text = client(world).get(SPACE + "/status").text
    assert "Waiting for a free builder" in text
    assert "Number 2 in line" in text


@pytest.mark.parametrize("status", list(BuildStatus))
def test_build_page_in_every_outcome(status: BuildStatus) -> None:
    world = stage_world(Stage.RUNNING)
    world.all_builds = [make_build(status)]
    for path in ("", "/state"):
        answer = client(world, "hf_mira").get(f"{SPACE}/builds/b1{path}")
        assert answer.status_code == 200
        check_rules(answer.text)
        assert words.OUTCOMES[status.value][0] in answer.text
    assert client(world, "hf_mira").get(f"{SPACE}/builds/b2").status_code == 404


def test_build_page_shows_phases_with_start_and_duration_but_the_log_to_writers_only() -> None:
    world = stage_world(Stage.BUILD_ERROR)
    stranger, owner = (client(world, token).get(f"{SPACE}/builds/b1").text for token in ("", "hf_mira"))
    for text in (stranger, owner):
        assert "Working out the requirements" in text
        assert "3.1 s" in text
    assert "Installed 41 packages" in owner
    assert "Installed 41 packages" not in stranger
    assert "data-stream" not in stranger


def test_the_phase_that_failed_is_marked_and_not_the_report_of_it() -> None:
    world = stage_world(Stage.BUILD_ERROR)
    (build,) = world.all_builds
    report = PhaseTime(name="report", started_at=NOW - 2, ended_at=NOW - 2)
    for phases in (build.phases, (*build.phases, report)):
        world.all_builds = [replace(build, phases=phases)]
        text = client(world).get(f"{SPACE}/builds/b1").text
        marks = re.findall(r'<li class="(\w+)">.*?<strong>(.*?)</strong>', text, re.DOTALL)
        assert marks[-1] == ("failed", "Taking a snapshot of the files")
        assert {mark for mark, _ in marks[:-1]} == {"done"}


def test_pages_for_writers_are_refused_to_others() -> None:
    world = stage_world(Stage.RUNNING)
    world.spaces[0] = replace(world.spaces[0], owner="admin", visibility="public")
    for path in ("/logs", "/settings", "/logs/run.txt", "/builds/b1/log.txt"):
        there = "/spaces/admin/whisper-notes" + path
        assert client(world, "hf_mira").get(there).status_code == 403
        answer = client(world).get(there, follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/login?next={there}"
    text = client(world, "hf_mira").get("/spaces/admin/whisper-notes").text
    assert "data-action" not in text
    assert '/settings"' not in text.replace("/settings/tokens", "")


def test_private_space_is_as_one_that_is_missing() -> None:
    world = stage_world(Stage.RUNNING)
    world.spaces[0] = replace(world.spaces[0], visibility="private")
    assert client(world).get(SPACE).status_code == 404
    assert client(world, "hf_admin").get(SPACE).status_code == 200
    assert "whisper-notes" not in client(world).get("/").text
    assert client(world).get(SPACE).text == client(world).get("/spaces/mira/other").text.replace(
        "other", "whisper-notes"
    )


def test_secrets_never_reach_a_page_and_variables_do() -> None:
    text = client(stage_world(Stage.RUNNING), "hf_mira").get(SPACE + "/settings").text
    assert "whisper-small" in text
    assert "API_KEY" in text
    assert "gAAAA" not in text


@pytest.mark.parametrize(("seconds", "chosen"), [(3600, "3600"), (NEVER, "-1"), (77, "custom"), (None, "default")])
def test_sleep_time_is_marked(seconds: int | None, chosen: str) -> None:
    world = stage_world(Stage.RUNNING)
    world.spaces[0] = replace(world.spaces[0], sleep_time_s=seconds)
    text = client(world, "hf_mira").get(SPACE + "/settings").text
    radios = [tag for tag in Markup(text).all("input") if tag.get("name") == "seconds"]
    assert [tag["value"] for tag in radios if "checked" in tag] == [chosen]
    assert "Default (1 h)" in text
    assert ('value="77"' in text) == (seconds == 77)


@pytest.mark.parametrize(("stage", "sdk", "shown"), [
    (Stage.RUNNING, "gradio", {"Sleep now", "Restart", "Pause", "Factory rebuild"}),
    (Stage.SLEEPING, "gradio", {"Wake", "Restart", "Pause", "Factory rebuild"}),
    (Stage.PAUSED, "gradio", {"Restart", "Factory rebuild"}),
    (Stage.RUNNING, "static", {"Factory rebuild"}),
])  # fmt: skip
def test_settings_offer_what_makes_sense(stage: Stage, sdk: str, shown: set[str]) -> None:
    world = stage_world(stage)
    world.spaces[0] = replace(world.spaces[0], sdk=sdk)
    text = client(world, "hf_mira").get(SPACE + "/settings").text
    everything = {"Wake", "Sleep now", "Restart", "Pause", "Factory rebuild"}
    assert {label for label in everything if f">{label}</button>" in text} == shown


def test_store_lists_searches_and_pages() -> None:
    world = World()
    for number in range(60):
        world.put(
            make_space(id=f"s{number:03}", name=f"app-{number}", host=f"a{number}.localhost", updated_at=NOW - number)
        )
    seen: list[str] = []
    address = "/"
    while address:
        text = client(world).get(address).text
        markup = check_rules(text)
        seen += re.findall(r'<a href="/spaces/mira/(app-\d+)"', text)
        address = next((str(tag["href"]) for tag in markup.all("a") if tag.get("rel") == "next"), "")
    assert seen == [f"app-{number}" for number in range(60)]
    assert "Nothing found" in client(world).get("/?search=zzz").text
    assert client(world).get("/?after=rubbish").status_code == 200
    assert client(world).get("/?owner=mira&search=whisper").status_code == 200


def test_empty_store_says_how_to_publish() -> None:
    text = client(World(), "hf_mira").get("/").text
    for command in ("dormouse push DIR", "git remote add dormouse http://mira@localhost:7878/spaces/mira/my-app"):
        assert command in text
    check_rules(text)


def test_new_space_shows_commands_that_can_be_copied() -> None:
    text = client(stage_world(Stage.NO_APP_FILE), "hf_mira").get(SPACE).text
    assert "dormouse push DIR --name mira/whisper-notes" in text
    assert "git remote add dormouse http://mira@localhost:7878/spaces/mira/whisper-notes" in text
    assert "git push dormouse HEAD:main" in text
    assert "--force" not in text


def test_administrators_choose_an_owner_and_others_are_themselves() -> None:
    owners = {
        token: re.findall(r"<option>(\w+)", client(World(), token).get("/new").text)
        for token in ("hf_admin", "hf_mira")
    }
    assert owners == {"hf_admin": ["admin", "mira"], "hf_mira": ["mira"]}


def test_admin_page_says_what_is_off_and_why() -> None:
    world = stage_world(Stage.RUNTIME_ERROR)
    world.isolation_answer = Isolation(
        name="process", level="reduced",
        features={"files": "on", "network": "off by DORMOUSE_EGRESS=host: apps share it", "user": "shared: one id"},
    )  # fmt: skip
    text = client(world, "hf_admin").get("/admin").text
    check_rules(text)
    for part in (
        "Reduced",
        "By DORMOUSE_EGRESS=host: apps share it",
        "Shared: one id",
        "1 worker",
        "gateway-1",
        "Need attention",
    ):
        assert part in text
    assert text.index("network") < text.index("files")
    assert client(world, "hf_mira").get("/admin").status_code == 403


def test_admin_page_renders_when_nothing_answers() -> None:
    class Silent(World):
        async def isolation(self) -> Isolation:
            raise Unavailable("The runner is away.")

        def workers(self) -> int:
            raise Unavailable("The broker is away.")

    text = client(Silent(), "hf_admin").get("/admin").text
    assert "The runner is away." in text
    assert "Nobody could be asked" in text
    context = make_context(World(), runtime=None)
    answer = TestClient(make_app(context), headers={"authorization": "Bearer hf_admin"}).get("/admin")
    assert "cannot reach the one that holds the apps" in answer.text


@pytest.mark.parametrize("path", ["/login", "/new", "/settings/tokens", "/nowhere"])
def test_other_pages_keep_the_rules(path: str) -> None:
    for token in ("", "hf_mira"):
        check_rules(client(World(), token).get(path).text)


@pytest.mark.parametrize(
    ("asked", "kept"), [("/new?a=1", "/new?a=1"), ("//evil.example", "/"), ("https://evil.example", "/")]
)
def test_signing_in_leads_to_pages_of_ours_only(asked: str, kept: str) -> None:
    text = client(World()).get("/login", params={"next": asked}).text
    (field,) = [tag for tag in Markup(text).all("input") if tag.get("name") == "next"]
    assert field["value"] == kept
    answer = client(World(), "hf_mira").get("/login", params={"next": asked}, follow_redirects=False)
    assert answer.headers["location"] == kept


def test_policy_lets_a_page_show_apps_but_nobody_show_the_page() -> None:
    policy = client(stage_world(Stage.RUNNING)).get(SPACE).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert "http://*.localhost:*" in rules["frame-src"]


def test_error_page_stands_when_asking_who_it_is_fails() -> None:
    class Broken(World):
        def find_token(self, hashed: str, now: float) -> None:
            raise RuntimeError("the database is gone")

    app = TestClient(make_app(make_context(Broken())), raise_server_exceptions=False)
    answer = app.get("/", headers={"authorization": "Bearer hf_mira", "accept": "text/html"})
    assert answer.status_code == 500
    assert "Something went wrong on our side" in answer.text
    check_rules(answer.text)


def test_log_downloads_are_plain_text_attachments() -> None:
    world = stage_world(Stage.BUILD_ERROR)
    for path, line in (
        ("/logs/run.txt", "Traceback"),
        ("/logs/build.txt", "gradio==6.31.0"),
        ("/builds/b1/log.txt", "gradio"),
    ):
        answer = client(world, "hf_mira").get(SPACE + path)
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["content-disposition"].startswith("attachment")
        assert line in answer.text
        assert "\x1b" not in answer.text


def test_static_files_are_few_named_and_kept() -> None:
    browser = client(World())
    address = re.search(r'href="(/static/dormouse.css[^"]*)"', browser.get("/").text)
    assert address is not None
    answer = browser.get(address[1])
    assert "immutable" in answer.headers["cache-control"]
    assert browser.get(address[1], headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert "immutable" not in browser.get("/static/dormouse.css?v=other").headers["cache-control"]
    for name in ("nothing.css", "..%2Frendering.py", "%2e%2e/rendering.py"):
        assert browser.get(f"/static/{name}").status_code == 404
