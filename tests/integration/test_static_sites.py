"""Static Spaces: links made by `CaddySites`, served by the real Caddy."""

import asyncio
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from orchestrator.adapters.static_sites import CaddySites
from orchestrator.domain.plan import STATIC_ADDRESS
from orchestrator.errors import Invalid, Missing
from orchestrator.gateway.commands import caddy_command
from orchestrator.settings import Settings
from tests.support.gateway_world import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]
HOST = "ann-page.localhost"


class Site:
    """A data folder, Caddy on it, and the adapter."""

    def __init__(self) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="dm-site-"))
        self.settings = Settings(data=self.data)
        self.settings.run.mkdir()
        self.sites = CaddySites(self.data)
        self.caddy: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        command = caddy_command(self.settings, self.settings.run)
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        self.caddy = await asyncio.create_subprocess_exec(*command, cwd=self.settings.run, env=environment)
        await until(self._answers, what="Caddy answers")

    async def _answers(self) -> bool:
        try:
            return (await self.get("/", "nobody.localhost"))[0] == 404
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        assert self.caddy
        self.caddy.send_signal(signal.SIGKILL)
        await self.caddy.wait()

    async def get(self, path: str, host: str = HOST, **headers: str) -> tuple[int, str, dict[str, str]]:
        connector = aiohttp.UnixConnector(str(self.settings.run / "caddy.sock"))
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.get(f"http://caddy{path}", headers={"host": host, **names}, allow_redirects=False) as answer,
        ):
            return answer.status, await answer.text(), {k.lower(): v for k, v in answer.headers.items()}

    def snapshot(self, name: str, files: dict[str, str]) -> str:
        folder = self.data / "snapshots" / "s1" / name
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return f"snapshots/s1/{name}"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site() -> AsyncIterator[Site]:
    site = Site()
    try:
        await site.start()
        yield site
    finally:
        await site.kill()
        shutil.rmtree(site.data)


async def test_a_snapshot_is_served_as_a_web_site(site: Site) -> None:
    files = {"index.html": "<h1>hi</h1>", "docs/index.html": "docs", "404.html": "not here", ".git/config": "secret"}
    assert site.sites.publish(HOST, site.snapshot("first", files)) == STATIC_ADDRESS == "unix:caddy.sock"
    status, text, headers = await site.get("/")
    assert (status, text, headers["content-type"]) == (200, "<h1>hi</h1>", "text/html; charset=utf-8")
    assert (await site.get("/", if_none_match=headers["etag"]))[0] == 304
    assert (await site.get("/docs"))[0] == 308
    assert (await site.get("/gone"))[:2] == (404, "not here")
    assert (await site.get("/.git/config"))[0] == 404
    assert (await site.get("/", range="bytes=0-3"))[:2] == (206, "<h1>")
    assert (await site.get("/", f"{HOST}:7878"))[0] == 200
    assert (await site.get("/", "ann-page.dormouse.internal"))[:2] == (200, "<h1>hi</h1>")


@pytest.mark.parametrize("host", ["..", ".", "a", "a/b", "%2e%2e", "..localhost", "x.localhost", "a..b"])
async def test_a_host_header_leads_nowhere_else(site: Site, host: str) -> None:
    (site.data / "key").write_text("secret")
    for path in ("/key", "/", "/../key", "/%2e%2e/key", "/..%2fkey"):
        status, text, _ = await site.get(path, host)
        assert status in (400, 404)
        assert "secret" not in text


async def test_a_new_snapshot_replaces_the_old_one_in_one_step(site: Site) -> None:
    first = site.snapshot("a", {"index.html": "a" * 500})
    second = site.snapshot("b", {"index.html": "b" * 500})
    site.sites.publish(HOST, first)
    ended = threading.Event()

    def swap() -> None:
        for number in range(300):
            site.sites.publish(HOST, second if number % 2 else first)
        ended.set()

    swapping = asyncio.create_task(asyncio.to_thread(swap))
    seen: set[str] = set()
    while not ended.is_set():
        status, text, _ = await site.get("/")
        assert status == 200
        seen.add(text)
    await swapping
    assert seen <= {"a" * 500, "b" * 500}
    assert not [path.name for path in (site.data / "sites").iterdir() if path.name.startswith(".")]


async def test_a_withdrawn_site_is_gone(site: Site) -> None:
    site.sites.publish("gone.localhost", site.snapshot("gone", {"index.html": "x"}))
    assert (await site.get("/", "gone.localhost"))[0] == 200
    site.sites.withdraw("gone.localhost")
    site.sites.withdraw("gone.localhost")
    assert (await site.get("/", "gone.localhost"))[0] == 404


async def test_caddy_comes_back_after_being_killed(site: Site) -> None:
    site.sites.publish(HOST, site.snapshot("back", {"index.html": "back"}))
    await site.kill()
    await site.start()
    assert (await site.get("/"))[1] == "back"
    assert (site.settings.run / "caddy.sock").stat().st_mode & 0o077 == 0


async def test_what_lies_elsewhere_is_refused(site: Site) -> None:
    for snapshot in ("..", "", "/etc", "snapshots/../../x"):
        with pytest.raises(Invalid):
            site.sites.publish(HOST, snapshot)
    with pytest.raises(Missing):
        site.sites.publish(HOST, "snapshots/none")
    for host in ("..", "a/b.c", "localhost", "../x.localhost", "A.localhost", ""):
        with pytest.raises(Invalid):
            site.sites.publish(host, "snapshots/s1/back")
