"""The client against answers that a server may give, friendly and not."""

import json

import httpx
import pytest

from orchestrator.client.hub import Hub, NotReachable
from orchestrator.errors import Conflict, Invalid, Missing, NotAllowed, Unauthenticated, Unavailable


def hub(answer, token: str = "t") -> Hub:
    return Hub("http://localhost:7878", token, transport=httpx.MockTransport(answer))


def always(status: int, **rest: object):
    return lambda _request: httpx.Response(status, **rest)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Invalid), (401, Unauthenticated), (403, NotAllowed), (404, Missing), (409, Conflict), (503, Unavailable)],
)
def test_an_error_has_the_servers_words(status, kind):
    with pytest.raises(kind, match="the reason"):
        hub(always(status, json={"error": "the reason"})).runtime("a/b")


@pytest.mark.parametrize("body", [b"", b"[1]", b"<html>", b"\xff\xfe", b'{"error": null}'])
def test_an_odd_error_body_still_gives_a_sentence(body):
    with pytest.raises(Missing, match=r"\w+"):
        hub(always(404, content=body)).runtime("a/b")


def test_control_characters_of_a_server_do_not_reach_the_terminal():
    with pytest.raises(Missing) as caught:
        hub(always(404, json={"error": "a\x1b[31mb" + "x" * 9000})).runtime("a/b")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) <= 2000


def test_a_page_that_is_no_api_is_no_dormouse():
    with pytest.raises(Unavailable, match="does not answer like Dormouse"):
        hub(always(200, text="<html>hello</html>")).runtime("a/b")


def test_nobody_there_says_what_to_do():
    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(NotReachable, match="dormouse up"):
        hub(refuse).runtime("a/b")


@pytest.mark.parametrize("name", ["", "a", "/b", "a/", "a/b/c"])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(name):
    with pytest.raises(Invalid, match="OWNER/NAME"):
        hub(always(500)).runtime(name)


def test_names_are_escaped_in_addresses():
    seen = []

    def answer(request):
        seen.append(request.url.raw_path)
        return httpx.Response(200, json={"stage": "RUNNING"})

    hub(answer).runtime("a/..%2f?x#y")
    assert seen == [b"/api/spaces/a/..%252f%3Fx%23y/runtime"]


def test_lists_go_on_to_the_last_page():
    def answer(request):
        if "cursor" in request.url.params:
            return httpx.Response(200, json=[{"id": "a/2"}])
        link = f'<{request.url.copy_add_param("cursor", "c")}>; rel="next"'
        return httpx.Response(200, json=[{"id": "a/1"}], headers={"link": link})

    assert [space["id"] for space in hub(answer).spaces()] == ["a/1", "a/2"]


def test_a_space_that_exists_is_not_created_twice():
    body = {"error": "exists", "url": "http://localhost:7878/spaces/a/b"}
    assert hub(always(409, json=body)).create("a/b", sdk="gradio") is False
    assert hub(always(200, json=body)).create("a/b", sdk="gradio") is True


def test_a_bare_name_is_the_callers_own():
    client = hub(always(200, json={"name": "ada"}))
    assert client.full_name("app") == "ada/app"
    assert client.full_name("bob/app") == "bob/app"


def test_log_lines_are_taken_out_of_their_events():
    events = "".join(f"data: {json.dumps({'data': text})}\n\n" for text in ("one\n", "two\n"))
    client = hub(always(200, text=": log\n\nevent: x\n" + events))
    with client.logs("a/b", "run", follow=False) as lines:
        assert list(lines) == ["one", "two"]


@pytest.mark.parametrize("url", ["", "localhost:7878", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(Invalid, match="address"):
        Hub(url)
