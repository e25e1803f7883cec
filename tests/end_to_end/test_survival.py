"""Any process may be killed at any moment; the world comes back, and awake apps keep answering."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest

from tests.end_to_end.conftest import asgi
from tests.support.product import Product, running, wait_for

pytestmark = pytest.mark.e2e


class Visitors:
    """Requests to one app without pause, from a few threads; counts what they got."""

    def __init__(self, product: Product, name: str) -> None:
        self.seen: Counter[str] = Counter()
        self._product, self._name, self._end = product, name, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self.seen[str(self._product.app(self._name).status_code)] += 1
            except httpx.HTTPError as error:
                self.seen[type(error).__name__] += 1
            time.sleep(0.02)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("survival") / "data") as product:
        product.create("echo")
        product.push("echo", asgi("1"))
        product.wait_stage("echo", "RUNNING")
        yield product


@pytest.mark.parametrize("child", ["redis", "api", "controller", "worker", "agent", "runner", "egress", "caddy"])
def test_an_awake_app_answers_through_the_death_of(product: Product, child: str) -> None:
    assert product.app("echo").status_code == 200
    pid = product.children()[child]
    with Visitors(product, "echo") as visitors:
        wait_for(lambda: visitors.seen["200"] > 10, 20, "visitors")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: product.children().get(child) not in (None, pid), 30, f"{child} to be restarted")
        before = visitors.seen["200"]
        wait_for(lambda: visitors.seen["200"] > before + 30, 20, "visitors after the restart")
    assert set(visitors.seen) == {"200"}, visitors.seen
    wait_for(lambda: product.api("GET", "/api/spaces/admin/echo").status_code == 200, 30, "the API")


def test_sleep_and_wake_work_after_all_of_that(product: Product) -> None:
    wait_for(lambda: product.api("POST", "/api/spaces/admin/echo/sleep").status_code == 200, 30, "sleep to be taken")
    product.wait_stage("echo", "SLEEPING", limit_s=60)
    assert product.app("echo").text.startswith("version 1")


def test_the_death_of_the_gateway_costs_a_moment(product: Product) -> None:
    pid = product.children()["envoy"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: product.app("echo").status_code == 200, 30, "the gateway to come back")


def test_a_build_survives_the_death_of_its_worker(product: Product) -> None:
    product.push("echo", asgi("2"))
    os.kill(product.children()["worker"], signal.SIGKILL)
    wait_for(lambda: product.app("echo").text.startswith("version 2"), 120, "the second version")


def test_a_second_start_finds_everything_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with running(tmp_path / "data") as first:
        first.create("awake")
        first.push("awake", asgi("a"))
        first.create("page", "static")
        first.push("page", {"README.md": "---\nsdk: static\n---\n", "index.html": "<h1>static</h1>"})
        first.wait_stage("awake", "RUNNING")
        first.wait_stage("page", "RUNNING")
        family = psutil.Process(first._process.pid).children(recursive=True)
        assert first.stop() == 0
    assert [process for process in family if process.is_running()] == []
    with running(tmp_path / "data") as second:
        assert second.app("awake").text.startswith("version a")
        assert second.app("page").text == "<h1>static</h1>"
        assert second.stop() == 0
