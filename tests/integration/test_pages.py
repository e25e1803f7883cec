"""The pages in a real browser, over the served application: signing in, actions, live parts, keyboard, looks."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from orchestrator.domain.lifecycle import Event, Stage
from orchestrator.domain.names import CommitSha, ReplicaId
from orchestrator.domain.space import BuildStatus, Problem, Replica, ReplicaState, Revision, RouteMode, Space
from orchestrator.errors import Missing
from tests.support.git import push_files
from tests.support.web_world import WebWorld, web_world

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed, so no page can be opened"),
]
APP = "<!doctype html><title>app</title><h1>The app itself</h1>"
WAIT_MS = 10_000
PAGE_BYTES_MAX = 60_000
FILES = {"README.md": "---\ntitle: Notes\nsdk: gradio\n---\n", "app.py": "import gradio\n", "docs/a b.md": "# A\n"}


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world() as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


class Visit:
    """One person's browser, with everything that should not happen written down."""

    def __init__(self, world: WebWorld, context: BrowserContext) -> None:
        self.world = world
        self.base = world.url.replace("127.0.0.1", "localhost")
        self.complaints: list[str] = []
        self.app_loads = 0
        self.foreign: list[str] = []
        context.set_default_timeout(WAIT_MS)
        context.route(re.compile(r"^http://[^/]+\.localhost"), self._app)
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("dialog", lambda dialog: dialog.accept())

    def _app(self, route: Route) -> None:
        self.app_loads += 1
        route.fulfill(body=APP, content_type="text/html")

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text:
            self.complaints.append(text)

    def _asked(self, url: str) -> None:
        if not re.match(rf"{re.escape(self.base)}/|http://[^/]+\.localhost[:/]|blob:|data:", url):
            self.foreign.append(url)

    def go(self, path: str) -> Page:
        self.page.goto(self.base + path)
        return self.page

    def sign_in(self, user: str, path: str = "/") -> Page:
        self.go(f"/login?next={path}")
        self.page.get_by_label("Access token").fill(self.world.tokens[user])
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(self.base + path)
        return self.page


@pytest.fixture
def visit(world: WebWorld, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1180, "height": 820})
    found = Visit(world, context)
    yield found
    context.close()
    assert found.complaints == []
    assert found.foreign == []


def publish(world: WebWorld, name: str) -> Space:
    """A Space with files, a revision and the stage RUNNING."""
    space, store, now = world.create(name), world.context.store, time.time()
    push_files(world.remote(name, "ann"), FILES, message="notes")
    space = world.space(name)
    sha = world.context.repositories.resolve(space.id, "main")
    assert sha is not None
    if store.builds(space.id) == []:
        store.request_build(space.id, CommitSha(sha), factory=False, now=now)
        store.happen(space.id, Event.COMMIT_ACCEPTED, now=now, sha=sha)
    (build,) = store.builds(space.id, limit=1)
    store.build_finished(build.id, BuildStatus.SUCCEEDED, now=now)
    image = {"id": "i", "kind": "environment", "sdk": "gradio", "snapshot": f"snapshots/{space.id}/{sha}"}
    revision = Revision(
        id=f"r-{space.id}",
        space_id=space.id,
        sha=build.sha,
        title="notes",
        created_at=now,
        build_id=build.id,
        image=image,
    )
    store.add_revision(revision)
    store.happen(space.id, Event.BUILD_SUCCEEDED, now=now, revision_id=revision.id, problem=None)
    return serve(world, name)


def serve(world: WebWorld, name: str) -> Space:
    space, store, now = world.space(name), world.context.store, time.time()
    replica = Replica(
        id=ReplicaId(f"p-{space.id}-{space.generation}"), space_id=space.id, revision_id=f"r-{space.id}",
        state=ReplicaState.READY, address="unix:apps/x.sock", started_at=now, ready_at=now, generation=space.generation,
    )  # fmt: skip
    assert store.add_replica(replica)
    store.serve(space, replica, now=now)
    return store.happen(space.id, Event.REPLICA_READY, now=now)


def withdraw(world: WebWorld, space: Space) -> None:
    """What the controller does with the route of a Space that has stopped."""
    store, now = world.context.store, time.time()
    for mode in (RouteMode.DRAIN, RouteMode.GONE):
        route = store.route(space.host)
        assert route is not None
        if route.mode is RouteMode.GONE:
            return
        assert store.change_route(space.host, expect=route.generation, mode=mode, now=now)


def badge(page: Page) -> str:
    return page.locator("#status .badge").first.inner_text()


# --- people ---------------------------------------------------------------------------------------------------
def test_signing_in_and_out(visit: Visit) -> None:
    page = visit.go("/new")
    assert page.url.endswith("/login?next=/new")
    page.get_by_label("Access token").fill("hf_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="wrong")).to_be_visible()
    page.get_by_label("Access token").fill(visit.world.tokens["ann"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New Space")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in", exact=True)).to_be_visible()


def test_a_token_is_made_shown_once_used_and_revoked(visit: Visit) -> None:
    page = visit.sign_in("bob", "/settings/tokens")
    page.get_by_label("What it is for").fill("laptop")
    page.get_by_role("button", name="Create").click()
    shown = page.locator("#new-token-shown code")
    expect(shown).to_contain_text("hf_")
    expect(page.get_by_role("button", name="Revoke laptop")).to_be_visible()
    visit.world.tokens["bob again"] = shown.inner_text()
    page.reload()
    expect(page.locator("#new-token-shown")).to_be_hidden()
    visit.page.context.clear_cookies()
    visit.sign_in("bob again", "/settings/tokens")
    page.get_by_role("button", name="Revoke laptop").click()
    expect(page.get_by_role("button", name="Revoke laptop")).to_have_count(0)


def test_browsers_that_are_signed_in_are_listed_and_signed_out(visit: Visit) -> None:
    visit.world.tokens["bob elsewhere"] = visit.world.token("bob", role="read")
    visit.sign_in("bob elsewhere", "/settings/tokens")
    visit.page.context.clear_cookies()
    page = visit.sign_in("bob", "/settings/tokens")
    listed = page.locator("section", has=page.get_by_role("heading", name="Browsers that are signed in"))
    this = listed.get_by_role("listitem").filter(has_text="(this browser)")
    expect(this).to_have_count(1)
    before = listed.get_by_role("listitem").count()
    listed.get_by_role("listitem").filter(has_text="read", has_not_text="(this browser)").get_by_role("button").click()
    expect(listed.get_by_role("listitem")).to_have_count(before - 1)
    this.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Access token")).to_be_visible()


def test_an_admin_adds_and_removes_a_person(visit: Visit) -> None:
    page = visit.sign_in("root", "/admin")
    page.get_by_label("New person").fill("dora")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#new-token-shown code")).to_contain_text("hf_")
    page.get_by_role("button", name="Remove dora").click()
    expect(page.get_by_role("status").filter(has_text="dora has been removed.")).to_be_visible()
    expect(page.get_by_role("button", name="Remove dora")).to_have_count(0)
    assert visit.world.context.store.find_user("dora") is None


# --- a Space's life -------------------------------------------------------------------------------------------
def test_a_new_space_ends_at_commands_that_work(visit: Visit) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.sign_in("ann", "/new")
    page.get_by_label("Name").fill("from-the-page")
    page.get_by_label("Streamlit").check()
    page.get_by_role("button", name="Create").click()
    page.wait_for_url("**/spaces/ann/from-the-page")
    assert visit.world.space("ann/from-the-page").sdk == "streamlit"
    page.get_by_role("button", name="Copy").first.click()
    assert page.evaluate("navigator.clipboard.readText()") == "dormouse push DIR --name ann/from-the-page"
    page.goto(visit.base + "/new")
    page.get_by_label("Name").fill("from-the-page")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#feedback")).to_contain_text("already")


def test_state_follows_by_itself_and_a_running_app_is_not_reloaded(visit: Visit) -> None:
    space, store = publish(visit.world, "ann/steady"), visit.world.context.store
    page = visit.sign_in("ann", "/spaces/ann/steady")
    expect(page.frame_locator("iframe").get_by_role("heading")).to_have_text("The app itself")
    page.evaluate("window.untouched = true")
    problem = Problem("bad-front-matter", "`sdk: gradioo` is unknown.", "README.md", 3)
    store.happen(space.id, Event.CONFIG_REFUSED, now=time.time(), problem=problem)
    expect(page.locator("#status .badge")).to_have_text(["Running", "Newest commit: configuration error"])
    expect(page.locator("#announce")).to_contain_text("An earlier version keeps running")
    expect(page.locator(".problem a")).to_have_text("README.md:3")
    assert visit.app_loads == 1
    assert page.evaluate("window.untouched")
    page.locator(".problem a").click()
    expect(page.locator("li#L3")).to_be_visible()


def test_pause_shows_an_explanation_and_restart_the_app_again(visit: Visit) -> None:
    space = publish(visit.world, "ann/paused")
    page = visit.sign_in("ann", "/spaces/ann/paused/settings")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#status .badge").first).to_have_text("Paused")
    assert visit.world.space("ann/paused").stage is Stage.PAUSED
    withdraw(visit.world, space)
    visit.go("/spaces/ann/paused")
    expect(page.locator("iframe")).to_have_count(0)
    expect(page.get_by_text("Visits do not wake it").first).to_be_visible()
    page.get_by_role("button", name="Restart").click()
    expect(page.locator("iframe")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("opens here by itself")
    serve(visit.world, "ann/paused")
    expect(page.locator("#status .badge").first).to_have_text("Running")
    assert visit.app_loads == 1


def test_buttons_follow_the_state_without_a_reload(visit: Visit) -> None:
    space, store = publish(visit.world, "ann/buttons"), visit.world.context.store
    page = visit.sign_in("ann", "/spaces/ann/buttons/settings")
    buttons = page.locator("#life button")
    expect(buttons).to_have_text(["Sleep now", "Restart", "Pause", "Factory rebuild"])
    page.evaluate("window.untouched = true")
    page.locator("#variable-value").fill("half typed")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status").filter(has_text="stays so until you restart it")).to_be_visible()
    expect(buttons).to_have_text(["Restart", "Factory rebuild"])
    withdraw(visit.world, space)
    page.get_by_role("button", name="Restart").click()
    expect(page.locator("#status .badge").first).to_have_text("Starting")
    serve(visit.world, "ann/buttons")
    expect(buttons.first).to_have_text("Sleep now")
    page.get_by_role("button", name="Sleep now").click()
    expect(page.get_by_role("status").filter(has_text="It falls asleep as soon as")).to_be_visible()
    withdraw(visit.world, space)
    store.happen(space.id, Event.IDLE, now=time.time())
    expect(buttons.first).to_have_text("Wake")
    assert page.evaluate("window.untouched")
    assert page.locator("#variable-value").input_value() == "half typed"


def test_badge_follows_a_wake_in_the_frame(visit: Visit) -> None:
    space, store = publish(visit.world, "ann/woken"), visit.world.context.store
    withdraw(visit.world, space)
    store.happen(space.id, Event.IDLE, now=time.time())
    page = visit.sign_in("ann", "/spaces/ann/woken")
    expect(page.locator("#status .badge").first).to_have_text("Asleep")
    store.happen(space.id, Event.VISITED, now=time.time())
    expect(page.locator("#status .badge").first).to_have_text("Starting", timeout=1500)
    serve(visit.world, "ann/woken")
    expect(page.locator("#status .badge").first).to_have_text("Running", timeout=1500)
    assert visit.app_loads == 1


def test_fields_say_their_rule(visit: Visit) -> None:
    page = visit.sign_in("ann", "/new")
    field = page.get_by_label("Name")
    for name, is_valid in (("my-app_1.x", True), ("a", True), ("my app", False), ("-a", False), ("a-", False),
                           ("a--b", False), ("a..b", False), ("a.git", False)):  # fmt: skip
        field.fill(name)
        assert field.evaluate("field => field.checkValidity()") is is_valid, name
    assert "Letters, digits" in (field.get_attribute("title") or "")


def test_variables_and_secrets(visit: Visit) -> None:
    space = publish(visit.world, "ann/configured")
    store = visit.world.context.store
    page = visit.sign_in("ann", "/spaces/ann/configured/settings")
    page.get_by_label("New variable").fill("MODEL")
    page.locator("#variable-value").fill("tiny <b>&amp;")
    page.locator("#variables-title ~ form.add").get_by_role("button").click()
    expect(page.get_by_role("status").filter(has_text="The variable is set.")).to_be_visible()
    expect(page.locator("#variable-1")).to_have_value("tiny <b>&amp;")
    page.locator("#variable-1").fill("large")
    page.get_by_role("button", name="Save").last.click()
    expect(page.locator("#feedback")).to_have_text("Saved.")
    page.get_by_label("New secret").fill("API_KEY")
    page.locator("#secret-value").fill("s3cret-value")
    page.locator("#secrets-title ~ form.add").get_by_role("button").click()
    expect(page.get_by_role("status").filter(has_text="The secret is set.")).to_be_visible()
    expect(page.get_by_role("button", name="Delete API_KEY")).to_be_visible()
    assert "s3cret" not in page.content()
    assert [variable.value for variable in store.variables(space.id)] == ["large"]
    assert visit.world.context.vault.open(store.secrets(space.id)[0].value) == "s3cret-value"
    page.locator("#secret-1").fill("other-value")
    page.get_by_role("button", name="Replace").click()
    expect(page.locator("#secret-1")).to_have_value("")
    assert visit.world.context.vault.open(store.secrets(space.id)[0].value) == "other-value"
    page.get_by_role("button", name="Delete API_KEY").click()
    expect(page.get_by_role("button", name="Delete API_KEY")).to_have_count(0)
    page.get_by_label("New variable").fill("1x")
    page.locator("#variables-title ~ form.add").get_by_role("button").click()
    assert page.locator("#variable-key:invalid").count() == 1


def test_sleep_time_choices_and_seconds(visit: Visit) -> None:
    publish(visit.world, "ann/sleepy")
    page = visit.sign_in("ann", "/spaces/ann/sleepy/settings")
    for choose, seconds in (
        (lambda: page.get_by_label("Never").check(), -1),
        (lambda: page.get_by_label("Seconds").fill("77"), 77),
        (lambda: page.get_by_label("Default (1 h)").check(), None),
    ):
        choose()
        page.locator("#sleep-title ~ form").get_by_role("button", name="Save").click()
        expect(page.locator("#feedback")).to_have_text("Saved.")
        assert visit.world.space("ann/sleepy").sleep_time_s == seconds


def test_deleting_asks_for_the_name(visit: Visit) -> None:
    publish(visit.world, "ann/doomed")
    page = visit.sign_in("ann", "/spaces/ann/doomed/settings")
    field, button = page.locator("#delete-name"), page.get_by_role("button", name="Delete this Space")
    field.fill("ann/other")
    button.click()
    assert visit.world.space("ann/doomed").stage is Stage.RUNNING
    field.fill("ann/doomed")
    button.click()
    page.wait_for_url(visit.base + "/")
    expect(page.get_by_role("link", name="doomed")).to_have_count(0)
    try:
        assert visit.world.space("ann/doomed").stage is Stage.DELETING
    except (AssertionError, Missing):
        assert visit.world.context.store.count_by_stage().get(Stage.DELETING)


# --- logs and builds ------------------------------------------------------------------------------------------
def test_build_page_follows_phases_log_and_outcome(visit: Visit) -> None:
    space, store, logs = publish(visit.world, "ann/built"), visit.world.context.store, visit.world.context.logs
    build = store.request_build(space.id, CommitSha(space.sha or ""), factory=True, now=time.time())
    store.happen(space.id, Event.COMMIT_ACCEPTED, now=time.time())
    page = visit.sign_in("ann", f"/spaces/ann/built/builds/{build.id}")
    expect(page.locator("#build-state")).to_contain_text("Waiting")
    store.build_sent(build.id, token_hash="x", now=time.time())
    store.build_claimed(build.id, worker="w", lease_until=time.time() + 60, now=time.time())
    for phase in ("fetch", "install"):
        store.build_phase(build.id, phase, detail="", now=time.time())
    expect(page.locator(".phases li.now")).to_contain_text("Installing packages")
    expect(page.locator(".phases li.done")).to_contain_text("Fetching the repository")
    evil = "\x1b[31mred\x1b[0m <img src=x onerror=alert(1)>"
    logs.append_build(build.id, 0, [(time.time(), "first"), (time.time(), evil)])
    expect(page.locator(".lines div")).to_have_count(2)
    expect(page.locator(".lines .c1")).to_have_text("red")
    expect(page.locator(".lines")).to_contain_text("<img src=x onerror=alert(1)>")
    logs.append_build(build.id, 2, [(time.time(), "last line")])
    store.build_finished(
        build.id, BuildStatus.FAILED, now=time.time(), problem=Problem("x", "No such package.", "requirements.txt", 1)
    )
    expect(page.locator("#build-state .badge").first).to_have_text("Failed")
    expect(page.locator(".lines div")).to_have_count(3)
    expect(page.locator(".log .state")).to_have_text("Complete, 3 lines")
    expect(page.locator(".phases li.failed")).to_contain_text("Installing packages")


def test_a_log_that_is_told_again_is_not_shown_twice(visit: Visit) -> None:
    publish(visit.world, "ann/told")
    told: list[int] = []

    def tell(route: Route) -> None:
        told.append(2 + len(told))
        lines = [{"data": f"line {n}\n", "timestamp": f"2026-01-01T00:00:0{n // 2}.000Z"} for n in range(told[-1])]
        body = "retry: 50\n\n" + "".join(f"data: {json.dumps(line)}\n\n" for line in lines)
        route.fulfill(body=body, content_type="text/event-stream")

    page = visit.sign_in("ann")
    page.route("**/logs/run", tell)
    visit.go("/spaces/ann/told/logs")
    expect(page.locator(".lines div").nth(6)).to_contain_text("line 6")
    texts = [re.sub(r"^[\d:]+", "", text) for text in page.locator(".lines div").all_inner_texts()]
    assert texts == [f"line {number}" for number in range(len(texts))]


def test_last_crash_stays_in_sight(visit: Visit) -> None:
    space = publish(visit.world, "ann/crashed")
    visit.world.context.store.happen(space.id, Event.REPLICA_LOST, now=time.time(), text="The app ended with status 1.")
    page = visit.sign_in("ann", "/spaces/ann/crashed/logs")
    expect(page.get_by_text("The app ended with status 1.")).to_be_visible()


def test_files_can_be_walked(visit: Visit) -> None:
    publish(visit.world, "ann/files")
    page = visit.go("/spaces/ann/files/tree/main")
    page.get_by_role("link", name="docs").click()
    page.get_by_role("link", name="a b.md").click()
    expect(page.locator("li#L1")).to_have_text("# A")
    page.get_by_role("navigation", name="Folders").get_by_role("link", name="files").click()
    expect(page.get_by_role("link", name="app.py")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="app.py").click()
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_text() == FILES["app.py"]


# --- for everybody --------------------------------------------------------------------------------------------
def test_keyboard_reaches_everything(visit: Visit) -> None:
    publish(visit.world, "ann/keys")
    page = visit.go("/")
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_text("Skip to content")
    assert (focused.bounding_box() or {"y": -1})["y"] >= 0
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="Notes").first.focus()
    outline = page.evaluate("getComputedStyle(document.activeElement.closest('.card')).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**/spaces/ann/**")
    steps = []
    for _ in range(20):
        page.keyboard.press("Tab")
        steps.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Open in own tab", "App", "Files", "Builds"} <= set(steps)


@pytest.mark.parametrize("width", [320, 1180])
def test_pages_fit_weigh_little_and_keep_the_policy(world: WebWorld, browser: Browser, width: int) -> None:
    name = f"ann/fits-{width}"
    space = publish(world, name)
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        visit = Visit(world, context)
        visit.sign_in("root")
        paths = [
            f"/spaces/{name}{tail}" for tail in ("", "/logs", "/tree/main", "/blob/main/app.py", "/builds", "/settings")
        ]
        build = world.context.store.builds(space.id)[0]
        for path in [
            "/",
            "/new",
            "/settings/tokens",
            "/admin",
            "/nowhere",
            *paths,
            f"/spaces/{name}/builds/{build.id}",
        ]:
            page = visit.go(path)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} is {wide} px too wide"
            sizes = page.evaluate(
                "performance.getEntries().filter(e => e.decodedBodySize && !e.name.includes('/api/'))"
                ".reduce((sum, e) => sum + e.decodedBodySize, 0)"
            )
            assert 0 < sizes < PAGE_BYTES_MAX, f"{path} weighs {sizes} bytes"
        assert visit.complaints == []
        assert visit.foreign == []
        context.close()
