"""What must hold before anything is started, each failure one sentence that says what to do.

The checks are in the order in which a person would mend them. They change nothing but the data folder, which they
create, and in it the run folder, from which they remove the sockets of an earlier run.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import psutil
import structlog

from orchestrator.errors import Refused
from orchestrator.settings import Settings

log = structlog.get_logger()

GIT_MIN = (2, 34)
"""Knows `--http-backend-info-refs`, and settings from the environment (`GIT_CONFIG_COUNT`)."""
DISK_REFUSE_MB = 50
DISK_WARN_MB = 500


def check_system() -> None:
    """The operating system and git. Raises Refused."""
    if sys.platform not in ("linux", "darwin"):
        raise Refused(f"Dormouse runs on Linux and macOS, not on {sys.platform}; use a virtual machine or WSL 2.")
    git_version()
    if not git_speaks_http():
        raise Refused("This git has no `remote-http`, which fetches what is built: install the full git package.")


def git_version() -> tuple[int, ...]:
    """Version of the git on the path; raises Refused where it is missing or too old."""
    try:
        answer = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        raise Refused("git is missing: install it (on Debian and Ubuntu `apt install git`) and start again.") from None
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", answer)
    version = tuple(int(part) for part in found.groups("0")) if found else (0,)
    if version < GIT_MIN:
        have, need = (".".join(map(str, each)) for each in (version, GIT_MIN))
        raise Refused(f"git {have} is too old: Dormouse needs git {need} or newer.")
    return version


def git_speaks_http() -> bool:
    """Some distributions put git's HTTP into a package of its own."""
    answer = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, timeout=10, check=False)
    return (Path(answer.stdout.strip()) / "git-remote-http").exists()


def prepare_data(data: Path) -> None:
    """Create the data folder, for its owner only, and see that it can be written. Raises Refused."""
    change = "choose another folder with DORMOUSE_DATA"
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data.stat().st_uid != os.geteuid():
            raise Refused(f"The data folder {data} belongs to another user: start as that user, or {change}.")
        data.chmod(0o700)
        with tempfile.TemporaryFile(dir=data) as probe:
            probe.write(b"x" * 4096)
    except (FileExistsError, NotADirectoryError):
        raise Refused(f"{data} cannot be the data folder, since a file is in its place: {change}.") from None
    except OSError as error:
        reasons = {
            errno.EROFS: "is on a read-only file system",
            errno.EACCES: "lies in a folder that is read-only for you",
            errno.ENOSPC: "is on a full disk",
        }
        reason = reasons.get(error.errno or 0, f"cannot be written ({os.strerror(error.errno or 0)})")
        raise Refused(f"The data folder {data} {reason}: make room or rights there, or {change}.") from None


def check_disk(data: Path) -> None:
    """Refuse to start where nothing can work; warn where it soon will not."""
    free_mb = shutil.disk_usage(data).free >> 20
    if free_mb < DISK_REFUSE_MB:
        raise Refused(
            f"Only {free_mb} MB are free on the disk of {data}, and Dormouse needs {DISK_REFUSE_MB} MB to start: "
            f"make room, or choose another folder with DORMOUSE_DATA."
        )
    if free_mb < DISK_WARN_MB:
        log.warning("disk_nearly_full", free_mb=free_mb, folder=str(data), meaning="builds may fail")


def lock_data(data: Path) -> IO[str]:
    """Take the folder for this process; the lock lasts as long as the returned file. Raises Refused if it is taken."""
    file = (data / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise Refused(
            f"Another `dormouse up`{f' (process {holder})' if holder.isdigit() else ''} is using {data}: "
            f"stop that one, or choose another folder with DORMOUSE_DATA."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def check_port(bind: str, port: int) -> None:
    """See that the public listener can be opened. Raises Refused, naming who has the port where that can be seen."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except PermissionError:
            raise Refused(f"Port {port} needs more rights: choose one above 1023 with DORMOUSE_PORT.") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Refused(
                    f"Port {port} is in use{_port_holder(port)}: stop that, or choose another with DORMOUSE_PORT."
                ) from None
            raise Refused(
                f"The address {bind} cannot be used ({error.strerror}): "
                f"set DORMOUSE_BIND to an address of this machine, for instance 127.0.0.1."
            ) from None


def _port_holder(port: int) -> str:
    """` by NAME (process PID)`, another Dormouse as such, or nothing where the system does not tell."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
                holder = psutil.Process(connection.pid)
                dormouse = next((process for process in (holder, *holder.parents()) if _is_dormouse(process)), None)
                name = "another Dormouse" if dormouse else holder.name()
                return f" by {name} (process {(dormouse or holder).pid})"
    return ""


def _is_dormouse(process: psutil.Process) -> bool:
    command = process.cmdline()
    return "up" in command and any(Path(word).name in ("dormouse", "orchestrator.cli.main") for word in command)


def clean_run_folder(run: Path) -> None:
    """Create the run folder and remove the sockets that an earlier run left."""
    for folder in (run, run / "apps", run / "egress"):
        folder.mkdir(mode=0o700, exist_ok=True)
        for entry in os.scandir(folder):
            if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                Path(entry.path).unlink(missing_ok=True)


def _is_new(data: Path) -> bool:
    try:
        return not data.exists()
    except OSError:
        return False  # Below a folder that cannot be entered; `prepare_data` says so.


def preflight(settings: Settings) -> IO[str]:
    """All of the above; the returned lock must be kept. Raises Refused."""
    check_system()
    if _is_new(settings.data):
        check_port(settings.bind, settings.port)  # A start that is refused for it leaves no folder behind.
    prepare_data(settings.data)
    lock = lock_data(settings.data)
    try:
        check_disk(settings.data)
        check_port(settings.bind, settings.port)
        clean_run_folder(settings.run)
    except BaseException:
        lock.close()
        raise
    return lock
