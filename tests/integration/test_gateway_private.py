"""Private Spaces as their visitors and strangers meet them: real Envoy, the agent, a control plane made by the test."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.gateway_world import FakeSpace, World, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]
BROWSER = {"accept": "text/html,application/xhtml+xml", "sec-fetch-dest": "document"}
KEY = "hf_opens_it"
SIGNED = "head.claims.signature"
FORMS: dict[str, dict[str, str]] = {
    "bearer": {"authorization": f"Bearer {KEY}"},
    "header": {"x-hf-authorization": f"Bearer {KEY}", "authorization": "Basic of-the-app"},
    "cookie": {"cookie": f"a=b; dormouse_app=planted; dormouse_app={KEY}; c=d"},
}
MISSING_HOST = "nobody-has-it.localhost"
STRANGERS: list[dict[str, str]] = [
    {},
    BROWSER,
    {"authorization": "Bearer hf_another"},
    {"x-hf-authorization": "Bearer hf_another"},
    {"cookie": "dormouse_app=wrong"},
    {"x-dormouse-held": "admitted"},
    {**BROWSER, "cookie": "dormouse_app=wrong", "x-dormouse-held": "admitted"},
]


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


async def awake(world: World, name: str, opens: str = KEY) -> str:
    host = f"{name}.localhost"
    world.control.spaces[host] = FakeSpace(stage="RUNNING", opens=opens)
    await world.control.serve(host, await world.start_app(name))
    return host


async def shape(http: aiohttp.ClientSession, host: str, path: str, method: str = "GET", **headers: str) -> Any:
    """An answer without what differs between any two: the host's own name, the time, ids and nonces."""
    async with http.request(method, path, headers={"host": host, **headers}) as answer:
        text = (await answer.text()).replace(host, "HOST")
        fields = {name.lower(): value for name, value in answer.headers.items()}
    plain = [re.sub(r"nonce[-=]\"?[\w-]+", "nonce", part) for part in (text, str(sorted(fields.items())))]
    return answer.status, *(re.sub(r"'(date|content-length)', '[^']*'", "", part) for part in plain)


# --- strangers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["awake", "asleep", "draining", "paused"])
async def test_a_stranger_gets_what_a_missing_space_gives(
    world: World, http: aiohttp.ClientSession, state: str
) -> None:
    control = world.control
    if state == "asleep":
        host = world.sleeper("secret-asleep", opens=KEY)
    elif state == "paused":
        host = "secret-paused.localhost"
        control.spaces[host] = FakeSpace(answer="explain", stage="PAUSED", opens=KEY)
    else:
        host = await awake(world, f"secret-{state}")
    if state == "draining":
        await control.in_force(control.change(host, "drain", f"unix:apps/secret-{state}.sock"))
    for headers in STRANGERS:
        for method in ("GET", "POST", "HEAD"):
            for path in ("/", "/x?__sign=wrong"):
                expected = await shape(http, MISSING_HOST, path, method, **headers)
                assert expected[0] == 404
                assert await shape(http, host, path, method, **headers) == expected
    for refused in (host, MISSING_HOST):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect("/ws", headers={"host": refused})
        assert caught.value.status == 404
    assert not control.spaces[host].wakes
    assert control.refused


async def test_other_spellings_of_the_host_open_nothing(world: World, http: aiohttp.ClientSession) -> None:
    host = await awake(world, "spelled")
    for name in ("SPELLED.localhost:1", "spelled.localhost.", "spelled.dormouse.internal"):
        async with http.get("/", headers={"host": name}) as answer:
            assert answer.status == 404
        async with http.get("/", headers={"host": name, **FORMS["bearer"]}) as answer:
            assert (answer.status, (await answer.json())["app"]) == (200, "spelled")
    assert {wake["host"] for wake in world.control.spaces[host].wakes} == {host}


async def test_a_key_opens_its_own_space_only(world: World, http: aiohttp.ClientSession) -> None:
    first, second = await awake(world, "first", "hf_first"), await awake(world, "second", "hf_second")
    for _ in range(2):
        for host, key, status in ((first, "hf_first", 200), (second, "hf_first", 404), (second, "hf_second", 200)):
            async with http.get("/", headers={"host": host, "authorization": f"Bearer {key}"}) as answer:
                assert answer.status == status


# --- those who may --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_whoever_may_see_it_is_served_and_asked_about_once(
    world: World, http: aiohttp.ClientSession, form: str
) -> None:
    host = await awake(world, f"mine-{form}")
    for _ in range(5):
        async with http.post("/x?y=1", headers={"host": host, **FORMS[form]}, data=b"x" * 3_000_000) as answer:
            data = await answer.json()
            assert (answer.status, data["app"], data["size"]) == (200, f"mine-{form}", 3_000_000)
            assert "set-cookie" not in answer.headers
    assert len(world.control.spaces[host].wakes) == 1, "the answer is kept for a minute"
    assert "x-hf-authorization" not in data["headers"]
    assert not [name for name in data["headers"] if name.startswith("x-dormouse")]
    if form == "header":
        assert data["headers"]["authorization"] == ["Basic of-the-app"], "that one is the app's"
    async with http.ws_connect("/ws", headers={"host": host, **FORMS[form]}) as connection:
        await connection.send_str("hello")
        assert (await connection.receive_str()) == f"mine-{form}:hello"


@pytest.mark.parametrize("form", FORMS)
async def test_a_visit_with_credentials_wakes_it(world: World, http: aiohttp.ClientSession, form: str) -> None:
    host = world.sleeper(f"wakes-{form}", opens=KEY)
    answers = await asyncio.gather(
        *(shape(http, host, "/") for _ in range(5)), *(shape(http, host, "/", **FORMS[form]) for _ in range(5))
    )
    assert [answer[0] for answer in answers] == [404] * 5 + [200] * 5
    assert world.counts[host] == 1


async def test_a_signed_address_becomes_a_cookie(world: World, http: aiohttp.ClientSession) -> None:
    host = await awake(world, "signed", SIGNED)
    async with http.get(f"/?a=1&__sign={SIGNED}", headers={"host": host, **BROWSER}) as answer:
        assert answer.status == 200
        cookie = answer.headers["set-cookie"]
    assert cookie == f"dormouse_app={SIGNED}; Path=/; HttpOnly; SameSite=Lax"
    frame = {**BROWSER, "sec-fetch-dest": "iframe"}
    async with http.get(f"/?__sign={SIGNED}", headers={"host": host, **frame}) as answer:
        assert answer.headers["set-cookie"].endswith("; SameSite=None; Secure; Partitioned")
    async with http.get("/page", headers={"host": host, "cookie": cookie.partition(";")[0], **BROWSER}) as answer:
        assert answer.status == 200
        assert "set-cookie" not in answer.headers


async def test_a_browser_sees_the_waking_page_of_its_private_space(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("signed-asleep", opens=SIGNED)
    async with http.get(f"/?__sign={SIGNED}", headers={"host": host, **BROWSER}) as answer:
        assert answer.status == 503
        assert "Waking up" in await answer.text()
        assert answer.headers["set-cookie"].startswith(f"dormouse_app={SIGNED};")
    await until(lambda: host in world.control.routes)
    async with http.get("/", headers={"host": host, "cookie": f"dormouse_app={SIGNED}", **BROWSER}) as answer:
        assert answer.status == 200


# --- its life -------------------------------------------------------------------------------------------------------


async def test_a_drain_lets_what_runs_end_and_a_visit_cancels_it(world: World, http: aiohttp.ClientSession) -> None:
    host, control = await awake(world, "drains"), world.control
    address, key = "unix:apps/drains.sock", FORMS["bearer"]
    running = asyncio.create_task(shape(http, host, "/slow?s=1.0", **key))
    await asyncio.sleep(0.3)
    generation = control.change(host, "drain", address)
    await control.in_force(generation)
    control.spaces[host].wakes.clear()
    newer = asyncio.create_task(shape(http, host, "/newer", **key))
    await until(lambda: control.spaces[host].wakes)
    assert host not in control.quiet
    assert (await running)[0] == 200
    await until(lambda: control.quiet.get(host) == generation, what="the drain is quiet")
    assert not newer.done(), "the marker lets nobody through"
    control.change(host, "serve", address)
    assert (await newer)[0] == 200


async def test_its_requests_and_streams_are_activity(world: World, http: aiohttp.ClientSession) -> None:
    host, control = await awake(world, "active"), world.control
    before = time.time()

    async def reported() -> bool:
        # Envoy's first report of a new cluster leaves out what came before it, so one request might not be seen.
        assert (await shape(http, host, "/", **FORMS["bearer"]))[0] == 200
        return control.active.get(host, 0) > before + 1.0

    await until(reported, what="a request is activity")
    before = time.time()
    async with http.ws_connect("/ws", headers={"host": host, **FORMS["bearer"]}):
        await until(lambda: control.active[host] > before + 1.5, what="an open stream is activity")


async def test_a_dead_replica_is_woken_again(world: World, http: aiohttp.ClientSession) -> None:
    host = world.sleeper("private-crash", opens=KEY)
    assert (await shape(http, host, "/", **FORMS["bearer"]))[0] == 200
    await world.unlisten("apps/private-crash-1.sock")
    world.control.spaces[host].wakes.clear()
    assert (await shape(http, host, "/"))[0] == 404
    assert "private-crash-2" in (await shape(http, host, "/", **FORMS["bearer"]))[1]


async def test_a_space_that_turns_private_is_closed_at_once(world: World, http: aiohttp.ClientSession) -> None:
    host = await awake(world, "turns", "")
    assert (await shape(http, host, "/"))[0] == 200
    world.control.spaces[host].opens = KEY
    await world.control.serve(host, "unix:apps/turns.sock")
    assert (await shape(http, host, "/"))[0] == 404
    assert (await shape(http, host, "/", **FORMS["bearer"]))[0] == 200
    world.control.spaces[host].opens = ""
    await world.control.serve(host, "unix:apps/turns.sock")
    assert (await shape(http, host, "/"))[0] == 200


async def test_no_public_app_is_told_the_token_of_a_client(world: World, http: aiohttp.ClientSession) -> None:
    awake_host, asleep = await awake(world, "open", ""), world.sleeper("open-asleep")
    for host in (awake_host, asleep):
        assert "hf_opens_it" not in (await shape(http, host, "/", **{"x-hf-authorization": f"Bearer {KEY}"}))[1]


async def test_without_the_control_plane_only_those_known_are_served(world: World, http: aiohttp.ClientSession) -> None:
    host = await awake(world, "lonely")
    assert (await shape(http, host, "/", **FORMS["bearer"]))[0] == 200
    world.control.away = True
    try:
        assert (await shape(http, host, "/", **FORMS["bearer"]))[0] == 200
        strange, missing = await asyncio.gather(shape(http, host, "/"), shape(http, MISSING_HOST, "/"))
        assert strange == missing
        assert strange[0] == 503
    finally:
        world.control.away = False


async def test_without_the_agent_nobody_is_served(world: World, http: aiohttp.ClientSession) -> None:
    host = await awake(world, "unguarded")
    await world.kill("agent")
    try:
        for headers in ({}, FORMS["bearer"], {"x-dormouse-held": "admitted"}):
            assert (await shape(http, host, "/", **headers))[0] == 503
            assert await shape(http, host, "/", **headers) == await shape(http, MISSING_HOST, "/", **headers)
    finally:
        await world.start_agent()
        await world.control.in_force(world.control.generation)
    await until(lambda: world.control.acked == world.control.generation)
    assert (await shape(http, host, "/", **FORMS["bearer"]))[0] == 200
