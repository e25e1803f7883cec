"""What an app can do to its neighbours and to Dormouse, tried from inside a real box: nothing, it is hoped."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runner_world import SERVE, UVICORN, RunnerWorld, interpreter_for, uid_of, until, users


@pytest.fixture(scope="module", params=list(users()))
def world(request: pytest.FixtureRequest) -> Iterator[RunnerWorld]:
    """A runner and a proxy, once as the user who runs the tests and once (as root) as an ordinary one."""
    if interpreter_for(uid_of(request.param)) is None:
        pytest.skip("no Python of this version that an ordinary user can run")
    made = RunnerWorld(uid_of(request.param), {"DORMOUSE_EGRESS_ALLOW": ""})
    try:
        asyncio.run(made.start("runner", "egress"))
        isolation = asyncio.run(made.runtime.isolation())
        if isolation.level == "none":
            pytest.skip(f"no sandbox on this machine: {isolation.features}")
        yield made
    finally:
        made.close()


async def test_a_neighbour_cannot_be_seen(world: RunnerWorld) -> None:
    victim = world.spec(
        SERVE + """
import socket, multiprocessing.shared_memory
open("/tmp/secret", "w").write("x"); open("secret", "w").write("x"); open("/home/user/secret", "w").write("x")
abstract = socket.socket(socket.AF_UNIX); abstract.bind("\\0box-secret"); abstract.listen()
tcp = socket.socket(); tcp.bind(("127.0.0.1", 5555)); tcp.listen()
memory = multiprocessing.shared_memory.SharedMemory("secret", create=True, size=10)
serve()
"""
    )  # fmt: skip
    await world.reach(victim, "ready")
    outside = socket.socket(socket.AF_UNIX)
    outside.bind("\0host-secret-" + str(world.port))
    outside.listen()
    found = await world.report(
        world.spec(
            SERVE + f"""
import socket, subprocess
def unix(path):
    socket.socket(socket.AF_UNIX).connect(path)
def tcp(port):
    socket.create_connection(("127.0.0.1", port), 2)
report["pids"] = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
report["places"] = [os.listdir(place) for place in ("/tmp", "/home/user", "/home/user/app", "/dev/shm")]
report["sockets"] = subprocess.run(
    "find / -path /proc -prune -o -path /usr -prune -o -type s -print 2>/dev/null", shell=True,
    capture_output=True, text=True).stdout.split()
report["data"] = [os.path.exists(p) for p in ({str(world.data)!r}, "/root/.ssh", "/etc/shadow")]
attempt("abstract", lambda: unix("\\0box-secret"))
attempt("host abstract", lambda: unix("\\0host-secret-{world.port}"))
attempt("tcp", lambda: tcp(5555))
attempt("host process", lambda: os.kill({os.getpid()}, 0))
attempt("replace proxy", lambda: os.unlink("/run/egress/egress.sock"))
attempt("link beside proxy", lambda: os.symlink("/x", "/run/egress/x"))
for place in ("/", "/dev", "/run", "/opt/env", "/opt/dormouse", "/usr", "/etc"):
    attempt("write " + place, lambda: open(place + "/x", "w"))
for name in ("environ", "mem", "fd", "maps", "cwd"):
    attempt("pid 1 " + name, lambda: os.listdir("/proc/1/fd") if name == "fd" else open("/proc/1/" + name).read(1))
serve()
"""
        )
    )  # fmt: skip
    outside.close()
    assert set(found["pids"]) <= {1, 2, 3, 4, 5}
    assert found["places"] == [[], ["app"], ["app.py"], []]
    assert found["sockets"] == ["/run/egress/egress.sock"]
    assert found["data"] == [False] * 3
    assert found["abstract"] == found["host abstract"] == found["tcp"] == "ConnectionRefusedError:111"
    assert found["host process"] == "ProcessLookupError:3"
    for place in ("/", "/dev", "/run", "/opt/env", "/opt/dormouse", "/usr", "/etc"):
        assert found[f"write {place}"] in ("OSError:30", "PermissionError:13"), place
    assert found["replace proxy"] == found["link beside proxy"] == "OSError:30"
    for name in ("environ", "mem", "fd", "maps", "cwd"):
        assert found[f"pid 1 {name}"] == "PermissionError:13", name


async def test_system_calls_that_lead_out_are_refused(world: RunnerWorld) -> None:
    found = await world.report(
        world.spec(
            SERVE + """
import ctypes, errno, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*arguments)
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
for family, protocol in ((40, 0), (17, 0), (38, 0), (31, 0), (16, 15), (1, 0), (2, 0), (10, 0), (16, 0)):
    kind = 3 if family == 16 else 5 if family == 38 else 1
    try:
        socket.socket(family, kind, protocol).close(); answer = "made"
    except OSError as error:
        answer = errno.errorcode[error.errno]
    report[f"socket {family} {protocol}"] = answer
if platform.machine() == "x86_64":
    numbers = dict(ptrace=101, unshare=272, setns=308, mount=165, bpf=321, keyctl=250, io_uring=425, userfaultfd=323,
        process_vm_readv=310, perf=298, open_by_handle=304, pivot_root=155, move_mount=429)
    for name, number in numbers.items():
        report[name] = call(number, 0, 0, 0, 0, 0)
    report["new user namespace"] = call(56, 0x10000000 | 17, 0, 0, 0, 0)
    report["clone3"] = call(435, 0, 0)
    report["x32 getpid"] = call(0x40000000 | 39)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
report["status"] = [status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")]
report["uid"] = os.getuid()
serve()
"""
        )
    )  # fmt: skip
    families = {name: answer for name, answer in found.items() if name.startswith("socket")}
    refused = ("socket 40 0", "socket 17 0", "socket 38 0", "socket 31 0", "socket 16 15")
    assert {name: families.pop(name) for name in refused} == dict.fromkeys(refused, "EAFNOSUPPORT")
    assert set(families.values()) == {"made"}
    assert found["status"] == ["0000000000000000", "0000000000000000", "1", "2"]
    assert found["uid"] == 1000
    if "ptrace" in found:
        assert found.pop("clone3") == "ENOSYS"
        calls = {k: v for k, v in found.items() if k not in ("status", "uid") and not k.startswith("socket")}
        assert calls == dict.fromkeys(calls, "EPERM")


async def test_the_working_folder_is_a_copy_that_can_be_written(world: RunnerWorld) -> None:
    spec = world.spec(
        SERVE + """
open("data.txt", "a").write("more"); open("new.txt", "w").write("x"); os.mkdir("folder"); os.remove("gone.txt")
report["data"], report["cwd"] = open("data.txt").read(), os.getcwd()
report["files"] = sorted(os.listdir("."))
report["home"] = os.environ["HOME"]
open(os.path.expanduser("~/x"), "w").write("x")
serve()
""",
        files={"data.txt": "old", "gone.txt": "x"},
    )  # fmt: skip
    found = await world.report(spec)
    assert found["data"] == "oldmore"
    assert found["cwd"] == "/home/user/app"
    assert found["home"] == "/home/user"
    assert found["files"] == ["app.py", "data.txt", "folder", "new.txt"]
    snapshot = world.data / spec.image["snapshot"]
    assert sorted(path.name for path in snapshot.iterdir()) == ["app.py", "data.txt", "gone.txt"]
    assert (snapshot / "data.txt").read_text() == "old"


async def test_secrets_are_seen_by_the_app_alone(world: RunnerWorld) -> None:
    secret = "hush-" + os.urandom(8).hex()
    spec = world.spec(SERVE + "report['token'] = os.environ['TOKEN']\nserve()\n", environment={"TOKEN": secret})
    assert (await world.report(spec))["token"] == secret
    for path in (*Path("/proc").glob("[0-9]*/cmdline"), *(world.run / "boxes").rglob("*")):  # noqa: ASYNC240
        try:
            content = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue
        assert secret.encode() not in content, path


async def test_a_fork_bomb_is_refused_and_hurts_nobody(world: RunnerWorld) -> None:
    neighbour = await world.reach(world.spec(UVICORN), "ready")
    bomb = (
        SERVE
        + """
import threading, time
# One thread answers everything: no other can be made once the limit is reached.
one_thread = http.server.HTTPServer(("127.0.0.1", 7860), Answer)
threading.Thread(target=one_thread.serve_forever, daemon=True).start()
made = 0
try:
    while made < 3000:
        if os.fork() == 0:
            time.sleep(60); os._exit(0)
        made += 1
except OSError as error:
    report.update(refused=error.errno, made=made)
time.sleep(60)
"""
    )
    spec = world.spec(bomb, processes_max=60)
    seen = await world.reach(spec, "ready")

    async def refused() -> dict[str, int]:
        return json.loads((await world.get(seen.address))[1])

    found = await until(refused, "the bomb is refused")
    assert found["refused"] == 11
    assert found["made"] < 60
    assert (await world.get(neighbour.address))[0] == 200
    await world.runtime.stop(spec.replica_id, 0.1)
    assert (await world.observed(spec.replica_id)).state == "ended"


HOGS = {
    "memory": "hoard = []\nwhile True:\n    hoard.append(bytearray(8 << 20)); hoard[-1][::4096] = b'x' * 2048\n",
    "files": "n = 0\nwhile True:\n    n += 1; open(f'{n}.bin', 'wb').write(b'x' * (8 << 20))\n",
}


@pytest.mark.parametrize("kind", HOGS)
async def test_a_hog_is_ended_with_the_reason(world: RunnerWorld, kind: str) -> None:
    neighbour = await world.reach(world.spec(UVICORN), "ready")
    spec = world.spec("import time\n" + HOGS[kind].replace("n += 1", "n += 1; time.sleep(.02)"), memory_mb=96)
    seen = await world.reach(spec, "ended")
    assert (seen.reason, seen.state) == ("memory-limit", "ended"), (seen, world.log(spec))
    assert "96 MB" in seen.detail
    assert world.log(spec)[-1] == seen.detail
    assert (await world.get(neighbour.address))[0] == 200


async def test_scratch_places_are_full_at_their_size(world: RunnerWorld) -> None:
    code = """
def fill(place):
    with open(place + "/x", "wb", buffering=0) as file:
        for count in range(200):
            file.write(b"x" * (1 << 20))
for place in ("/tmp", "/home/user", "/dev/shm"):
    attempt(place, lambda: fill(place)); os.unlink(place + "/x")
serve()
"""
    found = await world.report(world.spec(SERVE + code, disk_mb=8))
    assert set(found.values()) == {"OSError:28"}


async def test_an_app_that_never_listens_is_ended_with_a_hint(world: RunnerWorld) -> None:
    spec = world.spec(SERVE + "serve(5000)\n", start_timeout_s=1.0)
    seen = await world.reach(spec, "ended")
    assert seen.reason == "start-timeout"
    assert "It listens on port 5000: let it listen on 7860" in seen.detail
    assert world.log(spec)[-1] == seen.detail
    assert seen.address == ""


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        ("print('bye'); raise SystemExit(7)", 7, "exit code 7"),
        ("pass", 0, "exit code 0"),
        ("import os; os.kill(os.getpid(), 11)", 139, "SIGSEGV (segmentation fault)"),
    ],
)
async def test_an_app_that_exits_has_its_code_told(world: RunnerWorld, code: str, exit_code: int, words: str) -> None:
    spec = world.spec(code)
    seen = await world.reach(spec, "ended")
    assert (seen.reason, seen.exit_code) == ("exited", exit_code)
    assert words in seen.detail
    assert world.log(spec)[-1] == seen.detail
    if exit_code == 7:
        assert world.log(spec)[0] == "bye"


async def test_what_cannot_be_started_says_why(world: RunnerWorld) -> None:
    missing = world.spec("pass", command=["no-such-program"])
    seen = await world.reach(missing, "ended")
    assert (seen.reason, seen.exit_code) == ("could-not-start", 127)
    assert "no-such-program: No such file or directory" in seen.detail
    gone = world.spec("pass", image={"snapshot": "snapshots/none/none", "command": ["x"]})
    assert "rebuild the Space" in (await world.reach(gone, "ended")).detail
    outside = world.spec("pass", image={"snapshot": "../../etc", "command": ["x"]})
    assert (await world.reach(outside, "ended")).reason == "could-not-start"


async def test_a_flood_of_output_is_cut_and_counted(world: RunnerWorld) -> None:
    code = "print('x' * 20000)\nfor n in range(60000): print(n)\nprint('\\rone\\rtwo')\nraise SystemExit(0)\n"
    spec = world.spec(code)
    await world.reach(spec, "ended")
    lines = world.log(spec)
    assert lines[0].endswith("... (cut)")
    assert len(lines[0]) < 8300
    assert any("lines dropped" in line for line in lines)
    assert len(lines) < 30000


async def test_a_log_is_rotated_without_losing_its_writer(world: RunnerWorld) -> None:
    spec = world.spec(SERVE + "def handle(self):\n    print('line', self.path); return 1\nserve()\n")
    seen = await world.reach(spec, "ready")
    with world.log_path(spec).open("a") as file:
        file.write(('{"t": 1, "m": "' + "x" * 1000 + '"}\n') * 5000)
    await until(lambda: world.log_path(spec).stat().st_size < 1000, "the log is rotated")
    assert world.log_path(spec).with_name(world.log_path(spec).name + ".1").stat().st_size > 4 << 20
    await world.get(seen.address, "/after")
    await until(lambda: "line /after" in world.log(spec), "the app goes on writing")


async def test_server_errors_are_not_ready(world: RunnerWorld) -> None:
    code = """
count = 0
class Slow(Answer):
    def do_GET(self):
        global count
        count += 1
        self.send_response(503 if count < 3 else 404)
        self.send_header("Content-Length", "0"); self.end_headers()
        print("answered", count)
http.server.HTTPServer(("127.0.0.1", 7860), Slow).serve_forever()
"""
    spec = world.spec(SERVE + code)
    await world.reach(spec, "ready")
    assert "answered 3" in world.log(spec)


async def test_an_app_that_will_not_end_is_killed_after_the_grace(world: RunnerWorld) -> None:
    spec = world.spec(SERVE + "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nserve()\n")
    seen = await world.reach(spec, "ready")
    await world.runtime.stop(spec.replica_id, 0.2)
    assert (await world.observed(spec.replica_id)).reason == "stopped"
    assert not (world.run / seen.address.removeprefix("unix:")).exists()


@pytest.mark.parametrize("code", [UVICORN, "relay"])
async def test_large_bodies_and_many_connections_pass(world: RunnerWorld, code: str) -> None:
    """Once over the handed-in socket, once relayed: without the start-up hook uvicorn answers on its port only."""
    environment = {"GREETING": "moin"}
    spec = world.spec(UVICORN, environment=environment)
    if code == "relay":
        command = ["/bin/sh", "-c", "unset PYTHONPATH; exec {python} -m uvicorn app:app --port 7860"]
        spec = world.spec(UVICORN, command=command, environment=environment)
    seen = await world.reach(spec, "ready")
    status = (world.run / "boxes" / spec.replica_id / "status").read_text()
    assert status.startswith("R tcp" if code == "relay" else "R uds")
    answers = await asyncio.gather(*(world.get(seen.address, body=b"x" * (1 << 20)) for _ in range(30)))
    assert answers == [(200, b"moin 1048576")] * 30
    size = 24 << 20
    assert await world.get(seen.address, body=b"y" * size) == (200, f"moin {size}".encode())


async def test_limits_of_the_app_are_not_those_of_its_relay(world: RunnerWorld) -> None:
    code = SERVE + "import resource\nreport['files'] = resource.getrlimit(resource.RLIMIT_NOFILE)\nserve()\n"
    spec = world.spec(code, files_max=64)
    assert await world.report(spec) == {"files": [64, 64]}
    seen = await world.observed(spec.replica_id)
    path = world.run / seen.address.removeprefix("unix:")
    idle = [await asyncio.open_unix_connection(path) for _ in range(40)]
    assert (await world.get(seen.address))[0] == 200
    for _, writer in idle:
        writer.close()


async def test_the_socket_is_private_and_fresh_for_each_replica(world: RunnerWorld) -> None:
    addresses = [(await world.reach(world.spec(UVICORN), "ready")).address for _ in range(2)]
    assert len(set(addresses)) == 2
    for address in addresses:
        path = world.run / address.removeprefix("unix:")
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(address.removeprefix("unix:")) < 100
