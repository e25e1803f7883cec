"""What people see: the samples in a real browser, asleep and awake."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.end_to_end.conftest import EXAMPLES
from tests.support.product import ADMIN_TOKEN, Product

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WAKE_LIMIT_MS = 90_000
expect.set_options(timeout=30_000)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def samples(dormouse: Product) -> Product:
    for name in ("gradio", "streamlit", "static", "asgi"):
        dormouse.create(name, name)
        dormouse.push(name, EXAMPLES / name)
    for name in ("gradio", "streamlit", "static", "asgi"):
        dormouse.wait_stage(name, "RUNNING")
    return dormouse


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


def _use_gradio(page: Page) -> None:
    page.get_by_role("button", name="Analyse").click(timeout=WAKE_LIMIT_MS)
    expect(page.get_by_text("Reading ease")).to_be_visible()


def _use_streamlit(page: Page) -> None:
    slider = page.get_by_role("slider", name="Years").first
    expect(slider).to_be_visible(timeout=WAKE_LIMIT_MS)
    before = page.get_by_test_id("stMetricValue").first.inner_text()
    slider.focus()
    slider.press("ArrowRight")
    expect(page.get_by_test_id("stMetricValue").first).not_to_have_text(before)


def test_the_gradio_button_answers(samples: Product, page: Page) -> None:
    page.goto(samples.app_url("gradio"))
    _use_gradio(page)


def test_the_streamlit_slider_moves_the_numbers(samples: Product, page: Page) -> None:
    page.goto(samples.app_url("streamlit"))
    _use_streamlit(page)


def test_the_static_page_and_the_asgi_app_open(samples: Product, page: Page) -> None:
    page.goto(samples.app_url("static"))
    expect(page).to_have_title("Contrast checker")
    page.goto(samples.app_url("asgi"))
    expect(page).to_have_title("Checksums")


@pytest.mark.parametrize(("name", "use"), [("gradio", _use_gradio), ("streamlit", _use_streamlit)])
def test_the_waking_page_turns_into_the_app(samples: Product, page: Page, name: str, use: Any) -> None:
    samples.sleep(name)
    address = f"{samples.app_url(name)}/?from=test#here"
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == 503
    expect(page.get_by_role("status").first).to_be_visible()
    use(page)
    assert page.url == address
    assert page.evaluate("history.length") <= 2, "going back does not lead to the waking page"


def test_an_app_falls_asleep_by_itself_after_its_tab_is_closed(samples: Product, browser: Any) -> None:
    samples.api("POST", "/api/spaces/admin/streamlit/sleeptime", json={"seconds": 3})
    context = browser.new_context()
    page = context.new_page()
    page.goto(samples.app_url("streamlit"))
    _use_streamlit(page)
    page.wait_for_timeout(8_000)
    assert samples.runtime("streamlit")["stage"] == "RUNNING", "the WebSocket of an open tab counts as use"
    context.close()
    samples.wait_stage("streamlit", "SLEEPING", limit_s=60)
    samples.api("POST", "/api/spaces/admin/streamlit/sleeptime", json={"seconds": -1})


def test_signing_in_and_pausing_by_the_page(samples: Product, page: Page) -> None:
    page.goto(f"{samples.url}/login")
    page.locator("input[name=token]").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Checksums")).to_be_visible()
    page.goto(f"{samples.url}/spaces/admin/asgi")
    expect(page.frame_locator("iframe").get_by_text("Checksums").first).to_be_visible()
    page.goto(f"{samples.url}/spaces/admin/asgi/settings")
    page.get_by_role("button", name="Pause").click()
    samples.wait_stage("asgi", "PAUSED", limit_s=20)
    page.goto(f"{samples.url}/spaces/admin/asgi")
    expect(page.get_by_text("Paused").first).to_be_visible()
    samples.api("POST", "/api/spaces/admin/asgi/restart")
    samples.wait_stage("asgi", "RUNNING", limit_s=60)
