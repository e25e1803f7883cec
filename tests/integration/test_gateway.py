"""The gateway as visitors meet it: real Envoy, the agent as a process, a control plane and apps made by the test."""

import asyncio
import json
import random
import shutil
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.gateway_world import FakeControl, FakeSpace, World, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]
BROWSER = {"accept": "text/html,application/xhtml+xml", "sec-fetch-dest": "document"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world() -> AsyncIterator[World]:
    world = World()
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def http(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    async with world.client() as client:
        yield client


async def get(http: aiohttp.ClientSession, host: str, path: str = "/", **headers: str) -> tuple[int, Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.get(path, headers={"host": host, **names}) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if answer.content_type == "application/json" else text


async def raw(world: World, text: str) -> str:
    """One request as written, one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.settings.port)
    writer.write(text.encode("latin-1"))
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(65536), 10)
    writer.close()
    return answer.decode("latin-1")


# --- where requests go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "dormouse.internal:7878", "[::1]"])
async def test_own_names_lead_to_the_api(http: aiohttp.ClientSession, host: str) -> None:
    status, data = await get(http, host, "/api/spaces/a%2Fb//c?x=1")
    assert (status, data["app"], data["path"]) == (200, "api", "/api/spaces/a%2Fb//c?x=1")
    assert data["headers"]["x-forwarded-host"] == [host]


async def test_an_awake_space_is_served(world: World, http: aiohttp.ClientSession) -> None:
    await world.control.serve("up.localhost", await world.start_app("up"))
    for host in ("up.localhost", "UP.localhost:1234", "up.localhost.", "up.dormouse.internal"):
        status, data = await get(http, host, "/x?y=1")
        assert (status, data["app"], data["path"], data["headers"]["host"]) == (200, "up", "/x?y=1", [host])
        assert data["headers"]["x-forwarded-host"] == [host]
        assert data["headers"]["x-forwarded-proto"] == ["http"]


async def test_our_path_on_a_spaces_host_leads_to_the_api(world: World, http: aiohttp.ClientSession) -> None:
    await world.control.serve("ours.localhost", await world.start_app("ours"))
    assert (await get(http, "ours.localhost", "/.dormouse/status"))[1]["app"] == "api"
    assert (await get(http, "asleep.localhost", "/x/../.dormouse/status"))[1]["app"] == "api"
    assert (await get(http, "ours.localhost", "/.dormouse"))[1]["app"] == "ours"


async def test_an_unknown_host_gets_404(world: World, http: aiohttp.ClientSession) -> None:
    async with http.get("/", headers={"host": "nobody.localhost"}) as answer:
        assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")
        assert "no Space" in (await answer.json())["error"]
    status, page = await get(http, "nobody.localhost", **BROWSER)
    assert status == 404
    assert "no Space at this address" in page


@pytest.mark.parametrize("host", ["xds", "hold", "api", "pub/up.localhost", "none", "..", "a..b", "-", "x" * 300])
async def test_a_host_header_cannot_name_what_is_ours(world: World, host: str) -> None:
    answer = await raw(world, f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
    assert answer.split()[1] in ("404", "400")
    assert '"app"' not in answer


@pytest.mark.parametrize("line", ["host:\r\n", "", "host: a b\r\n", "host: a\r\nhost: b\r\n"])
async def test_an_odd_host_line_gets_an_answer(world: World, line: str) -> None:
    answer = await raw(world, f"GET / HTTP/1.1\r\n{line}connection: close\r\n\r\n")
    assert answer.split()[1] in ("404", "400")


async def test_what_visitors_may_not_say_is_removed(world: World, http: aiohttp.ClientSession) -> None:
    await world.control.serve("strip.localhost", await world.start_app("strip"))
    sent = {
        "x-forwarded-for": "9.9.9.9",
        "x-forwarded-host": "evil",
        "x-forwarded-proto": "https",
        "x-forwarded-prefix": "/evil",
        "forwarded": "for=9.9.9.9",
        "x-space-user": "root",
        "x-dormouse-held": "evil",
        "x-envoy-retry-on": "5xx",
        "x-request-id": "mine-1",
        "authorization": "Bearer hf_x",
    }
    for host in ("strip.localhost", "localhost"):
        async with http.get("/", headers={"host": host, **sent}) as answer:
            headers = (await answer.json())["headers"]
        assert "evil" not in str(headers)
        assert not [name for name in headers if name.startswith(("x-space-", "x-dormouse-", "x-envoy-", "forwarded"))]
        assert "9.9.9.9" not in headers["x-forwarded-for"][0]
        assert headers["x-forwarded-proto"] == ["http"]
        assert headers["x-request-id"] == ["mine-1"]
        assert headers["authorization"] == ["Bearer hf_x"]


# --- holding --------------------------------------------------------------------------------------------------------


async def test_a_get_is_held_for_the_wake(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("held-get")
    began = time.monotonic()
    status, data = await get(http, host, "/page?q=1")
    assert (status, data["app"], data["path"]) == (200, "held-get-1", "/page?q=1")
    assert time.monotonic() - began < 3
    assert data["headers"]["x-forwarded-host"] == [host]
    assert not [name for name in data["headers"] if name.startswith("x-dormouse")]
    assert world.control.spaces[host].wakes[0]["path"] == "/page"
    assert (await get(http, host))[0] == 200
    assert len(world.control.spaces[host].wakes) == 1


async def test_a_large_body_is_held_and_arrives_whole(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("held-post")
    async with http.post("/upload", headers={"host": host}, data=b"x" * 20_000_000) as answer:
        assert (answer.status, (await answer.json())["size"]) == (200, 20_000_000)


async def test_a_websocket_handshake_is_held(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("held-ws")
    async with http.ws_connect("/ws", headers={"host": host}) as connection:
        await connection.send_str("hello")
        assert (await connection.receive_str()) == "held-ws-1:hello"


async def test_an_event_stream_is_held(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("held-sse")
    async with http.get("/events?n=3", headers={"host": host, "accept": "text/event-stream"}) as answer:
        assert (answer.status, (await answer.text()).count("data:")) == (200, 3)


async def test_many_requests_ask_once(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("crowd")
    answers = await asyncio.gather(*(get(http, host, f"/{n}") for n in range(50)))
    assert {status for status, _ in answers} == {200}
    assert {data["path"] for _, data in answers} == {f"/{n}" for n in range(50)}
    space = world.control.spaces[host]
    assert (space.asking_most, world.counts[host]) == (1, 1)
    assert len(space.wakes) <= 2


async def test_the_control_plane_may_be_away_while_holding(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("patience")
    world.control.away = True
    try:
        held = asyncio.create_task(get(http, host))
        await asyncio.sleep(1.2)
        assert not held.done()
    finally:
        world.control.away = False
    assert (await held)[0] == 200


async def test_a_hold_ends_after_its_time(world: World, http: aiohttp.ClientSession) -> None:
    world.control.spaces["never.localhost"] = FakeSpace(stage="APP_STARTING", message="Loading a model.")
    async with http.get("/", headers={"host": "never.localhost"}) as answer:
        data = await answer.json()
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (data["stage"], data["space"]) == ("APP_STARTING", "ann/demo")
        assert "not started in time" in data["error"]
    assert len(world.control.spaces["never.localhost"].wakes) >= 4


async def test_an_error_during_the_wake_ends_the_hold(world: World, http: aiohttp.ClientSession) -> None:
    space = world.control.spaces["fails.localhost"] = FakeSpace(stage="APP_STARTING")
    held = asyncio.create_task(get(http, "fails.localhost"))
    await until(lambda: space.wakes)
    space.answer, space.stage, space.message = "explain", "RUNTIME_ERROR", "It exits with status 1."
    status, data = await held
    assert (status, data["error"], data["stage"]) == (503, "It exits with status 1.", "RUNTIME_ERROR")


async def test_one_host_cannot_take_every_place(world: World, http: aiohttp.ClientSession) -> None:
    world.control.spaces["greedy.localhost"] = FakeSpace(stage="BUILDING")
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(base_url=http._base_url, connector=connector) as many:
        held = [asyncio.create_task(get(many, "greedy.localhost")) for _ in range(60)]
        await until(lambda: len(world.control.spaces["greedy.localhost"].wakes) > 1)
        status, data = await get(many, "greedy.localhost")
        assert (status, data["stage"]) == (503, "BUILDING")
        assert "Too many" in data["error"]
        host = world.sleeper("modest")
        assert (await get(many, host))[0] == 200
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


# --- browsers -------------------------------------------------------------------------------------------------------


async def test_a_browser_gets_the_waking_page_at_once(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("page", title="My <b>demo</b>")
    began = time.monotonic()
    async with http.get("/?a=1", headers={"host": host, **BROWSER}) as answer:
        text = await answer.text()
    assert time.monotonic() - began < 0.25
    assert (answer.status, answer.headers["cache-control"], answer.headers["retry-after"]) == (503, "no-store", "5")
    assert "My &lt;b&gt;demo&lt;/b&gt;" in text
    assert "/.dormouse/status" in text
    assert "http-equiv" in text
    nonce = answer.headers["content-security-policy"].split("script-src 'nonce-")[1].split("'")[0]
    assert text.count(f'nonce="{nonce}"') == 2
    await until(lambda: host in world.control.routes)
    status, data = await get(http, host, "/?a=1", **BROWSER)
    assert (status, data["app"]) == (200, "page-1")


async def test_a_frame_is_a_page_and_a_fetch_is_held(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("frame")
    status, text = await get(http, host, accept="text/html", sec_fetch_dest="iframe")
    assert status == 503
    assert "Waking up" in text
    status, data = await get(http, host, accept="text/html", sec_fetch_dest="empty")
    assert (status, data["app"]) == (200, "frame-1")


async def test_a_paused_space_explains_itself(world: World, http: aiohttp.ClientSession) -> None:
    world.control.spaces["paused.localhost"] = FakeSpace(answer="explain", stage="PAUSED", message="Paused by ann.")
    status, text = await get(http, "paused.localhost", **BROWSER)
    assert status == 503
    assert "This Space is paused" in text
    assert "Paused by ann." in text
    assert 'href="http://localhost/spaces/ann/demo"' in text
    status, data = await get(http, "paused.localhost")
    assert (status, data["error"], data["stage"]) == (503, "Paused by ann.", "PAUSED")


async def test_a_configuration_error_names_file_and_line(world: World, http: aiohttp.ClientSession) -> None:
    world.control.spaces["config.localhost"] = FakeSpace(
        answer="explain", stage="CONFIG_ERROR", message="sdk is <unknown>."
    )
    status, text = await get(http, "config.localhost", **BROWSER)
    assert status == 503
    assert "README.md:3" in text
    assert "sdk is &lt;unknown&gt;." in text
    assert (await get(http, "config.localhost"))[1]["line"] == 3


async def test_a_deleted_space_is_missing_also_while_waiting(world: World, http: aiohttp.ClientSession) -> None:
    space = world.control.spaces["deleted.localhost"] = FakeSpace(stage="APP_STARTING")
    held = asyncio.create_task(get(http, "deleted.localhost"))
    await until(lambda: space.wakes)
    space.answer = "missing"
    assert (await held)[0] == 404


@pytest.mark.browser
async def test_the_waking_page_turns_into_the_app(world: World) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    from playwright.async_api import async_playwright

    host = world.sleeper("browser", title="A demo")
    world.control.spaces[host].on_wake = lambda c, h, _d: world.wake_with(c, h, 2.5)
    problems: list[str] = []
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if "Security Policy" in line.text else None)
        address = f"http://{host}:{world.settings.port}/x?a=1#part"
        await page.goto(address)
        assert await page.inner_text("h1") == "A demo"
        world.control.spaces[host].stage = "APP_STARTING"
        await page.wait_for_selector("text=first line")
        await page.wait_for_selector("#phase:text('Starting the app')")
        assert await page.inner_text("#detail") == "Warming up."
        await page.wait_for_selector("text=browser-1")
        assert page.url == address
        assert await page.evaluate("history.length") == 2  # the empty page that every tab begins with, and this one
        await browser.close()
    assert not problems


@pytest.mark.browser
async def test_the_waking_page_tells_of_an_error(world: World) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    from playwright.async_api import async_playwright

    host = "page-error.localhost"
    space = world.control.spaces[host] = FakeSpace(stage="APP_STARTING")
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"http://{host}:{world.settings.port}/")
        space.stage, space.message = "RUNTIME_ERROR", "It exits with <status> 1."
        await page.wait_for_selector("text=It exits with <status> 1.")
        assert await page.inner_text("#phase") == "This Space could not start"
        await browser.close()


# --- sleep ----------------------------------------------------------------------------------------------------------


async def test_a_drain_waits_for_what_runs_and_holds_what_comes(world: World, http: aiohttp.ClientSession) -> None:
    host = "drain.localhost"
    control = world.control
    control.spaces[host] = FakeSpace(stage="RUNNING")
    address = await world.start_app("drain")
    await control.serve(host, address)
    running = asyncio.create_task(get(http, host, "/slow?s=1.0"))
    await asyncio.sleep(0.3)
    generation = control.change(host, "drain", address)
    await control.in_force(generation)
    newer = asyncio.create_task(get(http, host, "/newer"))
    await until(lambda: control.spaces[host].wakes)
    assert control.quiet.get(host) is None
    assert not running.done()
    assert (await running)[0] == 200
    await until(lambda: control.quiet.get(host) == generation, what="the drain is quiet")
    assert not newer.done()
    control.change(host, "serve", address)
    assert (await newer)[1]["app"] == "drain"
    await until(lambda: host not in control.quiet)
    assert (await get(http, host))[0] == 200


async def test_a_cancelled_drain_cuts_nothing(world: World, http: aiohttp.ClientSession) -> None:
    host, control = "cancel.localhost", world.control
    control.spaces[host] = FakeSpace(stage="RUNNING")
    address = await world.start_app("cancel")
    await control.serve(host, address)
    async with http.ws_connect("/ws", headers={"host": host}) as connection:
        for _ in range(10):
            await control.in_force(control.change(host, "drain", address))
            held = asyncio.create_task(get(http, host))
            await until(lambda: control.spaces[host].wakes)
            await connection.send_str("still")
            assert (await connection.receive_str()) == "cancel:still"
            control.change(host, "serve", address)
            assert (await held)[0] == 200
            control.spaces[host].wakes.clear()
        assert host not in control.quiet


async def test_a_quiet_space_is_withdrawn_and_woken_again(world: World, http: aiohttp.ClientSession) -> None:
    host, control = world.sleeper("nap"), world.control
    assert (await get(http, host))[1]["app"] == "nap-1"
    generation = control.change(host, "drain", "unix:apps/nap-1.sock")
    await until(lambda: control.quiet.get(host) == generation)
    await control.in_force(control.change(host, "gone"))
    await world.unlisten("apps/nap-1.sock")
    control.spaces[host].wakes.clear()
    assert (await get(http, host))[1]["app"] == "nap-2"


@pytest.mark.parametrize("opens", ["", "hf_key"], ids=["public", "private"])
async def test_sleeps_under_random_requests_lose_nothing(world: World, http: aiohttp.ClientSession, opens: str) -> None:
    """Each sleep ends the app at once, so that a request in flight would be lost and seen."""
    name = "private-soak" if opens else "soak"
    host, control, rng = f"{name}.localhost", world.control, random.Random(7)
    awake, count, cancelled = "", 0, 0
    lock = asyncio.Lock()

    async def visited(_control: FakeControl, _host: str, _data: dict[str, Any]) -> None:
        nonlocal awake, count, cancelled
        async with lock:
            if awake:
                cancelled += 1
            else:
                count += 1
                awake = await world.start_app(f"{name}-{count}")
            control.change(host, "serve", awake)

    async def sleep() -> bool:
        nonlocal awake
        async with lock:
            generation = control.change(host, "drain", awake)
        route = control.routes[host]
        await until(lambda: control.routes.get(host) != route or control.quiet.get(host) == generation)
        async with lock:
            if control.routes.get(host) != route:
                return False
            gone = control.change(host, "gone")
            await control.in_force(gone)
            await world.unlisten(awake.removeprefix("unix:"))
            awake = ""
            return True

    control.spaces[host] = FakeSpace(on_wake=visited, every_time=True, opens=opens)
    results: list[tuple[int, str]] = []

    async def visit() -> None:
        while True:
            path = rng.choice(["/", "/slow?s=0.05", "/events?n=3&pause=0.02"])
            status, data = await get(http, host, path, authorization=f"Bearer {opens}")
            results.append((status, "" if status == 200 else str(data)))
            await asyncio.sleep(rng.uniform(0, 3.0))

    visitors = [asyncio.create_task(visit()) for _ in range(4)]
    slept = 0
    end = time.monotonic() + 30
    while slept < 8 and time.monotonic() < end:
        await until(lambda: awake)
        slept += await sleep()
    for visitor in visitors:
        visitor.cancel()
    errors = [
        e for e in await asyncio.gather(*visitors, return_exceptions=True) if not isinstance(e, asyncio.CancelledError)
    ]
    assert not errors
    assert set(results) == {(200, "")}
    assert slept >= 3
    print(f"{slept} sleeps, {cancelled} cancelled, {len(results)} requests, none lost")


async def test_a_replica_may_listen_on_tcp(world: World, http: aiohttp.ClientSession) -> None:
    host, control = "tcp.localhost", world.control
    control.spaces[host] = FakeSpace(stage="RUNNING")
    address = await world.start_tcp_app("tcp")
    await control.serve(host, address)
    assert (await get(http, host))[1]["app"] == "tcp"
    began = time.monotonic()
    generation = control.change(host, "drain", address)
    held = asyncio.create_task(get(http, host))
    await until(lambda: control.quiet.get(host) == generation)
    assert time.monotonic() - began > 1.0, "longer than a connection may take"
    control.change(host, "serve", address)
    assert (await held)[1]["app"] == "tcp"


async def test_an_idle_tab_does_not_keep_a_space_awake(world: World, http: aiohttp.ClientSession) -> None:
    host, control = "tab.localhost", world.control
    address = await world.start_app("tab")
    await control.serve(host, address)
    idle = asyncio.create_task(get(http, host, "/events?n=60&pause=0.5"))
    busy = await http.ws_connect("/ws", headers={"host": host})
    moved_before = await until(lambda: control.moved.get(host))
    assert not idle.done()

    async def chat() -> None:
        while True:
            await busy.send_str("x" * 2000)
            await busy.receive_str()
            await asyncio.sleep(0.2)

    chatting = asyncio.create_task(chat())
    await until(lambda: control.moved.get(host, 0) > moved_before + 1, what="real bytes count as moved")
    generation = control.change(host, "drain", address)
    await control.in_force(generation)
    await asyncio.sleep(5)
    assert control.quiet.get(host) is None, "a stream that moves bytes is never quiet"
    chatting.cancel()
    await busy.close()
    await until(lambda: control.quiet.get(host) == generation, limit_s=12, what="only the idle tab is left")
    assert not idle.done()
    idle.cancel()


async def test_open_streams_and_requests_are_activity(world: World, http: aiohttp.ClientSession) -> None:
    host, control = "busy.localhost", world.control
    await control.serve(host, await world.start_app("busy"))
    await until(lambda: host in control.active, what="a new route is activity")
    await asyncio.sleep(0.5)
    before = time.time()
    assert control.active[host] < before
    assert (await get(http, host))[0] == 200
    await until(lambda: control.active.get(host, 0) >= before)
    async with http.ws_connect("/ws", headers={"host": host}):
        await until(lambda: control.active[host] > before + 1.5, what="an open stream is activity")
    assert control.moved[host] < control.active[host]
    ended = time.time() + 1
    await asyncio.sleep(1.5)
    assert control.active[host] <= ended


# --- what dies ------------------------------------------------------------------------------------------------------


async def test_a_dead_replica_is_woken_again(world: World, http: aiohttp.ClientSession) -> None:
    host, control = world.sleeper("crash"), world.control
    assert (await get(http, host))[1]["app"] == "crash-1"
    await world.unlisten("apps/crash-1.sock")
    control.spaces[host].wakes.clear()
    answers = await asyncio.gather(
        get(http, host), get(http, host), http.post("/p", headers={"host": host}, data=b"x" * 300_000)
    )
    assert control.spaces[host].wakes[0]["dead"] == "unix:apps/crash-1.sock"
    assert [data["app"] for _, data in answers[:2]] == ["crash-2", "crash-2"]
    assert (await answers[2].json())["size"] == 300_000
    assert world.counts[host] == 2


async def test_killed_agent_costs_nothing_that_runs(world: World, http: aiohttp.ClientSession) -> None:
    host, control = "steady.localhost", world.control
    address = await world.start_app("steady")
    await control.serve(host, address)
    statuses: list[int] = []

    async def visit() -> None:
        while True:
            statuses.append((await get(http, host))[0])
            await asyncio.sleep(0.005)

    visiting = asyncio.create_task(visit())
    async with http.ws_connect("/ws", headers={"host": host}) as connection:
        await world.kill("agent")
        await asyncio.sleep(0.3)
        await world.start_agent()
        new = await world.start_app("while-away")
        await control.in_force(control.change("while-away.localhost", "serve", new))
        await connection.send_str("there")
        assert (await connection.receive_str()) == "steady:there"
    visiting.cancel()
    assert len(statuses) > 50
    assert set(statuses) == {200}
    host = world.sleeper("after-agent")
    assert (await get(http, host))[0] == 200


async def test_a_marker_without_an_agent_lets_the_app_serve(world: World, http: aiohttp.ClientSession) -> None:
    host, control = "marked.localhost", world.control
    address = await world.start_app("marked")
    await control.serve(host, address)
    await control.in_force(control.change(host, "drain", address))
    await world.kill("agent")
    assert (await get(http, host))[1]["app"] == "marked"
    async with http.get("/", headers={"host": "asleep.localhost"}) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert "x-dormouse-again" not in answer.headers
    control.change(host, "serve", address)
    await world.start_agent()
    await control.in_force(control.generation)
    assert (await get(http, host))[1]["app"] == "marked"


async def test_a_wake_bridges_the_restart_of_the_agent(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("bridge")
    world.control.spaces[host].on_wake = None
    held = asyncio.create_task(get(http, host))
    await until(lambda: world.control.spaces[host].wakes)
    await world.kill("agent")
    await world.start_agent()
    world.control.change(host, "serve", await world.start_app("bridge"))
    assert (await held)[0] == 200


async def test_killed_envoy_gets_everything_again(world: World, http: aiohttp.ClientSession) -> None:
    host, control = "again.localhost", world.control
    address = await world.start_app("again")
    await control.serve(host, address)
    await world.kill("envoy")
    generation = control.change("other.localhost", "serve", address)
    await asyncio.sleep(0.2)
    assert control.acked < generation
    await world.start_envoy()
    await control.in_force(generation)
    assert (await get(http, host))[0] == 200
    assert (await get(http, "other.localhost"))[0] == 200


async def test_a_lost_stream_is_followed_again(world: World, http: aiohttp.ClientSession) -> None:
    control = world.control
    address = await world.start_app("resync")
    await control.serve("resync.localhost", address)
    connections = control.connections
    control.away = True
    control.cut()
    control.change("resync.localhost", "gone")
    control.change("later.localhost", "serve", address)
    assert (await get(http, "resync.localhost"))[0] == 200
    control.away = False
    await until(lambda: control.connections > connections)
    await control.in_force(control.generation)
    assert (await get(http, "later.localhost"))[0] == 200
    assert (await get(http, "resync.localhost"))[0] == 404


async def test_the_api_may_restart_between_two_reads(world: World, http: aiohttp.ClientSession) -> None:
    await world.unlisten("api.sock")
    waiting = asyncio.create_task(get(http, "localhost", "/healthz"))
    await asyncio.sleep(0.4)
    await world.listen("api.sock", world.api())
    assert (await waiting)[0] == 200


async def test_nothing_but_the_public_port_listens(world: World) -> None:
    for name in ("xds.sock", "envoy-admin.sock"):
        assert (world.run / name).stat().st_mode & 0o077 == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", world.settings.port)) == 0
