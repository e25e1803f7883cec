"""The worker as the supervisor starts it: a Celery worker on a real broker, ended by SIGTERM and by SIGKILL."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.adapters.queue.celery import CeleryQueue, broker_url
from orchestrator.supervisor.processes import redis_command
from tests.support.builder_world import TOKEN, World
from tests.support.product import wait_for

TINY = {"README.md": "---\nsdk: asgi\n---\n", "app.py": "async def app(scope, receive, send):\n    pass\n"}
STOP_LIMIT_S = 8.0


class Worker:
    """`python -m builder worker` beside a broker."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.run = (world.data / "run").resolve()
        self.log = world.root / "worker.log"
        self.queue = CeleryQueue(broker_url(self.run / "redis.sock"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # The address that the worker itself makes is too long in the folder of a test, as it may be in a user's.
        environment = {**os.environ, "DORMOUSE_DATA": str(self.world.data), "DORMOUSE_BUILD_LEASE_S": "2"}
        with self.log.open("ab") as log:
            command = [sys.executable, "-P", "-m", "builder", "worker"]
            self.process = subprocess.Popen(command, cwd=self.run, env=environment, stdout=log, stderr=log)
        wait_for(lambda: self.queue.workers() == 1, 30, "the worker to answer")

    def children(self) -> list[psutil.Process]:
        assert self.process
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def end(self, number: int) -> float:
        """Send the signal and wait; how long it took."""
        assert self.process
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=30)
        return time.monotonic() - started


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    world = World(tmp_path / "w")
    run = (world.data / "run").resolve()
    broker = subprocess.Popen([*redis_command()], cwd=run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made = Worker(world)
    try:
        wait_for((run / "redis.sock").exists, 10, "the broker")
        made.start()
        yield made
    finally:
        if made.process and made.process.poll() is None:
            made.process.kill()
            made.process.wait()
        broker.terminate()
        broker.wait(timeout=10)
        world.close()


def busy(worker: Worker) -> list[psutil.Process]:
    """Processes of a build that is at work."""
    return [child for child in worker.children() if child.name() in ("uv", "git", "python3.11", "python3")]


def send(worker: Worker, space: str) -> str:
    order = worker.world.order(space, worker.world.commit(space, TINY))
    worker.queue.send(order)
    return order.build_id


def in_install(worker: Worker, build: str) -> bool:
    return "install" in worker.world.internal.heard(build).phases


def test_an_order_is_built(worker: Worker) -> None:
    build = send(worker, "s")
    heard = worker.world.internal.heard(build)
    wait_for(lambda: heard.result, 120, "the result")
    assert heard.result
    assert heard.result["image"]["sdk"] == "asgi"
    assert TOKEN not in worker.log.read_text()
    assert "Traceback" not in worker.log.read_text()


def test_sigterm_ends_it_soon_and_the_order_waits_for_the_next(worker: Worker) -> None:
    build = send(worker, "s")
    wait_for(lambda: in_install(worker, build), 60, "the install phase", every_s=0.005)
    assert worker.end(signal.SIGTERM) < STOP_LIMIT_S
    heard = worker.world.internal.heard(build)
    assert heard.result is None
    worker.start()
    wait_for(lambda: heard.result, 120, "the build by the next worker")
    assert "Traceback" not in worker.log.read_text()


def test_sigterm_ends_an_idle_worker_soon(worker: Worker) -> None:
    assert worker.end(signal.SIGTERM) < STOP_LIMIT_S


def test_sigkill_leaves_no_process(worker: Worker) -> None:
    build = send(worker, "s")
    wait_for(lambda: in_install(worker, build), 60, "the install phase", every_s=0.005)
    children = wait_for(lambda: busy(worker), 30, "a command of the build", every_s=0.005)
    worker.end(signal.SIGKILL)
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert gone
