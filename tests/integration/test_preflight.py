"""`dormouse up` where it cannot work: one clear sentence, exit status 1, nothing started."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.supervisor import checks

PRIVATE = ["unshare", "--mount", "--map-root-user"]


def up(data: Path, prefix: list[str] | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [*(prefix or []), sys.executable, "-m", "orchestrator.cli.main", "up"]
    given: Mapping[str, str] = {**os.environ, "DORMOUSE_DATA": str(data), "DORMOUSE_PORT": "17878", **environ}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_a_busy_port_is_named_with_its_holder(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        result = up(tmp_path / "data", DORMOUSE_PORT=str(port))
    refused(result, f"Port {port} is in use", f"process {os.getpid()}", "DORMOUSE_PORT")
    assert not (tmp_path / "data").exists(), "a start that is refused leaves nothing behind"


def test_another_dormouse_on_the_port_is_named_as_one(tmp_path):
    source = (
        "import socket, time\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\n"
        "print(s.getsockname()[1], flush=True)\ntime.sleep(60)\n"
    )
    script = tmp_path / "dormouse"
    script.write_text(source)
    with subprocess.Popen([sys.executable, str(script), "up"], stdout=subprocess.PIPE, text=True) as holder:
        port = holder.stdout.readline().strip()
        result = up(tmp_path / "data", DORMOUSE_PORT=port)
        holder.kill()
    refused(result, f"Port {port} is in use by another Dormouse (process {holder.pid})")


def test_an_address_of_another_machine_is_refused(tmp_path):
    refused(up(tmp_path / "data", DORMOUSE_BIND="192.0.2.1"), "192.0.2.1", "DORMOUSE_BIND")


def test_a_missing_git_is_named(tmp_path):
    refused(up(tmp_path / "data", PATH=str(tmp_path)), "git is missing", "install")


def test_an_old_git_is_named_with_both_versions(tmp_path):
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\necho git version 2.11.4\n")
    git.chmod(0o755)
    refused(up(tmp_path / "data", PATH=f"{git.parent}:{os.environ['PATH']}"), "2.11.4", "2.34")


def test_a_second_start_on_the_same_folder_names_the_first(tmp_path):
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711\n")
        file.flush()
        refused(up(tmp_path), "Another `dormouse up` (process 4711)", str(tmp_path), "DORMOUSE_DATA")


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_in_the_place_of_the_folder(tmp_path, below):
    (tmp_path / "file").write_text("")
    refused(up(Path(f"{tmp_path}/file{below}")), "a file is in its place", "DORMOUSE_DATA")


def mounted(tmp_path: Path, options: str) -> list[str]:
    """A prefix that runs a command where tmp_path/data is a small file system of its own; skips where it cannot."""
    (tmp_path / "data").mkdir()
    script = f'mount -t tmpfs -o {options} tmpfs {tmp_path}/data && exec "$@"'
    prefix = [*PRIVATE, "sh", "-c", script, "sh"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs a mount namespace of its own")
    return prefix


def test_a_read_only_folder(tmp_path):
    refused(up(tmp_path / "data", mounted(tmp_path, "ro")), "read-only", "DORMOUSE_DATA")


def test_a_full_disk(tmp_path):
    refused(up(tmp_path / "data", mounted(tmp_path, "size=10m")), "free", "50 MB", "make room")


def test_a_disk_without_a_single_byte(tmp_path):
    prefix = mounted(tmp_path, "size=1m")
    prefix[-2] = prefix[-2].replace("exec", f"{{ cat /dev/zero > {tmp_path}/data/fill 2>/dev/null || true; }} && exec")
    refused(up(tmp_path / "data", prefix), "full disk", "DORMOUSE_DATA")


def test_wrong_settings_are_all_named_together(tmp_path):
    result = up(tmp_path / "data", DORMOUSE_PORT="many", DORMOUSE_SANDBOX="maybe")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "DORMOUSE_PORT" in result.stderr
    assert "DORMOUSE_SANDBOX" in result.stderr


def test_the_data_folder_is_private_and_old_sockets_go(tmp_path):
    data = tmp_path / "data"
    checks.prepare_data(data)
    assert data.stat().st_mode & 0o777 == 0o700
    (data / "run").mkdir()
    for name in ("redis.sock", "kept.txt"):
        if name.endswith("sock"):
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(str(data / "run" / name))
        else:
            (data / "run" / name).write_text("x")
    checks.clean_run_folder(data / "run")
    assert sorted(entry.name for entry in (data / "run").iterdir()) == ["apps", "egress", "kept.txt"]


def test_the_lock_ends_with_its_process(tmp_path):
    lock = checks.lock_data(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.close()
    checks.lock_data(tmp_path).close()
