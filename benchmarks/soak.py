"""Repeats sleeps under requests at random instants, and counts what was lost. The goal is 0."""

import argparse
import collections
import json
import random
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import httpx
from websockets.exceptions import WebSocketException

from benchmarks.measure import RESULTS
from tests.end_to_end.conftest import asgi
from tests.support.product import Product, running


class Clients:
    """Requests of every kind at random instants; each is either answered whole or lost."""

    def __init__(self, product: Product, name: str, threads: int) -> None:
        self.answered: collections.Counter[str] = collections.Counter()
        self.lost: list[str] = []
        self._product, self._name, self._end = product, name, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(random.Random(n),)) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, dice: random.Random) -> None:
        kinds = (self._get, self._post, self._events, self._socket)
        while not self._end.is_set():
            kind = dice.choice(kinds)
            label = kind.__name__.removeprefix("_")
            try:
                kind()
                self.answered[label] += 1
            except (httpx.HTTPError, WebSocketException, AssertionError, OSError) as error:
                self.lost.append(f"{label}: {type(error).__name__} {error}"[:300])
            self._end.wait(dice.expovariate(1 / 0.4))

    def _get(self) -> None:
        answer = self._product.app(self._name)
        assert answer.status_code == 200, answer.status_code

    def _post(self) -> None:
        answer = self._product.app(self._name, "/x", method="POST", content=b"x" * 30_000)
        assert answer.text.endswith("got 30000 bytes"), answer.text[:100]

    def _events(self) -> None:
        text = self._product.app(self._name, "/events").text
        assert text.count("data:") == 5, text

    def _socket(self) -> None:
        with self._product.websocket(self._name) as socket:
            for number in range(3):
                socket.send(str(number))
                assert socket.recv(timeout=30) == f"echo {number}"


def soak(product: Product, *, sleeps: int, limit_s: float, threads: int) -> dict[str, object]:
    """Ask for sleep after sleep; a sleep that a request cancels counts as cancelled."""
    product.create("soak")
    product.push("soak", asgi("soak"))
    product.wait_stage("soak", "RUNNING")
    done = cancelled = 0
    end = time.monotonic() + limit_s
    with Clients(product, "soak", threads) as clients:
        while done < sleeps and time.monotonic() < end:
            answer = product.api("POST", "/api/spaces/admin/soak/sleep")
            if answer.status_code < 300 and _slept(product):
                done += 1
            else:
                cancelled += 1
                time.sleep(0.05)
    return {
        "sleeps": done,
        "cancelled": cancelled,
        "requests": sum(clients.answered.values()) + len(clients.lost),
        "answered": dict(clients.answered),
        "lost": len(clients.lost),
        "examples_of_lost": clients.lost[:10],
    }


def _slept(product: Product) -> bool:
    """Whether the sleep that was asked for went through: the stage says so before a request cancels it."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        events = product.api("GET", "/api/spaces/admin/soak/history").json()
        newest = (events if isinstance(events, list) else events["events"])[0]
        if newest["kind"] == "idle" or product.runtime("soak")["stage"] == "SLEEPING":
            return True
        time.sleep(0.02)
        if product.runtime("soak")["stage"] == "RUNNING" and time.monotonic() > end - 13:
            return False
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sleeps", type=int, default=100)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which it ends in any case")
    parser.add_argument("--clients", type=int, default=4)
    chosen = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        running(Path(folder) / "data", wake_rate_per_s="50", wake_burst="50") as product,
    ):
        result = soak(product, sleeps=chosen.sleeps, limit_s=chosen.limit, threads=chosen.clients)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if result["lost"] == 0 and result["sleeps"] else 1


if __name__ == "__main__":
    sys.exit(main())
