import json
from typing import Any

import pytest

from orchestrator.errors import Invalid
from orchestrator.gateway import waking_page
from orchestrator.gateway.authz import is_navigation
from orchestrator.gateway.control import WakeAnswer, parse_answer

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.mark.parametrize(
    ("method", "headers", "page"),
    [
        ("GET", {"accept": HTML, "sec-fetch-dest": "document"}, True),
        ("GET", {"accept": HTML, "sec-fetch-dest": "iframe"}, True),
        ("GET", {"accept": HTML}, True),
        ("GET", {"accept": HTML, "sec-fetch-dest": "empty"}, False),
        ("GET", {"accept": HTML, "sec-fetch-dest": "image"}, False),
        ("GET", {"accept": HTML, "upgrade": "websocket"}, False),
        ("GET", {"accept": "*/*"}, False),
        ("GET", {}, False),
        ("HEAD", {"accept": HTML}, False),
        ("POST", {"accept": HTML}, False),
    ],
)
def test_only_a_browser_that_opens_a_page_gets_one(method: str, headers: dict[str, str], page: bool) -> None:
    assert is_navigation(method, headers) is page


def test_an_answer_is_read_and_cut() -> None:
    data = {"answer": "wait", "stage": "BUILDING", "message": "x" * 9000, "page": "javascript:alert(1)", "line": "3"}
    answer = parse_answer({**data, "retry_after_s": 99999, "file": None})
    assert (answer.page, answer.line, answer.file, answer.retry_after_s) == ("", None, "", 3600)
    assert len(answer.message) == 4000


@pytest.mark.parametrize("data", [None, [], {}, {"answer": "maybe"}, "wait"])
def test_an_answer_that_is_none_is_refused(data: Any) -> None:
    with pytest.raises(Invalid):
        parse_answer(data)


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def test_what_authors_write_stays_text() -> None:
    answer = WakeAnswer(
        answer="explain", stage="X", title=EVIL, space=EVIL, message=EVIL, file=EVIL, page='http://"><u>'
    )
    for reply in (waking_page.waking(answer, EVIL), waking_page.explain(answer, EVIL, browser=True)):
        assert EVIL not in reply.body
        assert "<img" not in reply.body
        assert '"><u>' not in reply.body
    assert EVIL not in waking_page.missing(EVIL, browser=True).body


def test_what_stands_between_backticks_is_code_and_still_text() -> None:
    answer = WakeAnswer(answer="explain", stage="CONFIG_ERROR", message="Write `sdk: <b>` or `gradio`, not a lone `.")
    body = waking_page.explain(answer, "a.localhost", browser=True).body
    assert "Write <code>sdk: &lt;b&gt;</code> or <code>gradio</code>, not a lone `." in body


def test_a_wrong_address_leads_to_the_list_of_apps() -> None:
    assert "<a" not in waking_page.missing("x.localhost", browser=True).body
    waking_page.show_way_home("http://apps.example")
    try:
        assert '<a href="http://apps.example/" target="_top">' in waking_page.missing("x.localhost", browser=True).body
    finally:
        waking_page.show_way_home("")


def test_pages_name_no_other_host_and_every_script_has_the_nonce() -> None:
    reply = waking_page.waking(WakeAnswer(answer="wait", stage="SLEEPING"), "a.localhost")
    assert "//" not in reply.body.replace("      // ", "")
    nonce = reply.headers["content-security-policy"].split("script-src 'nonce-")[1].split("'")[0]
    assert reply.body.count("<script") == reply.body.count(f'<script nonce="{nonce}"') == 1
    assert " style=" not in reply.body
    assert " on" not in reply.body.split("<body>")[1].split("<script")[0].replace(" on ", "")
    assert nonce not in waking_page.waking(None, "a.localhost").body


def test_without_the_control_plane_the_page_says_so() -> None:
    reply = waking_page.waking(None, "a.localhost")
    assert (reply.status, reply.headers["retry-after"], reply.headers["cache-control"]) == (503, "2", "no-store")
    assert "Waiting for Dormouse itself" in reply.body


def test_programs_get_json() -> None:
    answer = WakeAnswer(answer="explain", stage="PAUSED", space="a/b", message="Paused.", retry_after_s=30)
    reply = waking_page.explain(answer, "a.localhost", browser=False)
    assert (reply.status, reply.headers["retry-after"]) == (503, "30")
    assert json.loads(reply.body) == {"error": "Paused.", "stage": "PAUSED", "space": "a/b", "page": ""}
    assert json.loads(waking_page.busy(None, full=True).body)["stage"] == "UNKNOWN"
    assert waking_page.missing("x", browser=False).headers["x-error-code"] == "RepoNotFound"
