"""What is kept of each box on disk, so that a runner that was killed finds its boxes again.

`run/boxes/<replica id>/` holds `box.json` (this record; never a variable or secret), `status` (what PID 1 says),
`bwrap.json` (what bubblewrap says) and `stderr`. PID 1 writes `status`, so it is read as a stranger's words.
"""

import json
import re
import signal
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import Invalid

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,119}")
_READ_MAX = 64 << 10


@dataclass(frozen=True, kw_only=True)
class BoxRecord:
    """One box, as `box.json` has it."""

    replica_id: str
    space_id: str
    space: str
    name: str
    """Short name of socket, cgroup and mounts."""
    host: str = "localhost"
    """Host header of the readiness probe."""
    port: int = 7860
    start_timeout_s: float = 1800.0
    memory_mb: int = 2048
    started_at: float = 0.0
    boot_id: str = ""
    uid: int | None = None
    grouped: bool = False
    """Whether a cgroup bounds its memory."""
    outer_pid: int = 0
    outer_start: int = 0
    pid: int = 0
    """PID 1 of the box, as this machine numbers it."""
    pid_start: int = 0
    ready_at: float = 0.0
    ended_at: float = 0.0
    exit_code: int | None = None
    reason: str = ""
    detail: str = ""

    @property
    def address(self) -> str:
        return f"unix:apps/{self.name}.sock"

    @property
    def state(self) -> str:
        if self.ended_at:
            return "ended"
        return "ready" if self.ready_at else "starting"

    @property
    def since(self) -> float:
        return self.ended_at or self.ready_at or self.started_at

    def observed(self) -> dict[str, Any]:
        """The fields of `ports.runtime.Observed`."""
        return {
            "replica_id": self.replica_id, "space_id": self.space_id, "state": self.state,
            "address": "" if self.ended_at else self.address, "since": self.since,
            "exit_code": self.exit_code, "reason": self.reason, "detail": self.detail,
        }  # fmt: skip


def checked_id(text: str, what: str) -> str:
    """`text` if it can be a file name of ours; raises Invalid."""
    if not _ID.fullmatch(text):
        raise Invalid(f"{text[:80]!r} is no {what} id: use letters, digits, '-', '_' and '.'.")
    return text


def box_folder(run: Path, replica_id: str) -> Path:
    return run / "boxes" / replica_id


def save(folder: Path, record: BoxRecord) -> None:
    """Write `box.json` in one step."""
    temporary = folder / "box.json.new"
    temporary.write_text(json.dumps(asdict(record)))
    temporary.replace(folder / "box.json")


def load(folder: Path) -> BoxRecord | None:
    """The record of a folder, or None if there is none that can be used."""
    try:
        raw = json.loads(_text(folder / "box.json"))
        known = {field.name for field in fields(BoxRecord)}
        return BoxRecord(**{name: value for name, value in raw.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_READ_MAX).decode("utf-8", "replace")


@dataclass(frozen=True)
class Status:
    """What PID 1 said: how the app is reached, the app's exit code (-n for signal n), why it could not start."""

    listens: str = ""
    exit_code: int | None = None
    failure: str = ""


def read_status(folder: Path) -> Status:
    """Parse the `status` file; words that make no sense are left out."""
    status = Status()
    try:
        lines = _text(folder / "status").splitlines()
    except OSError:
        return status
    for line in lines:
        letter, _, rest = line.partition(" ")
        if letter == "R" and not status.listens:
            status = replace(status, listens=rest.split(" ")[0][:8])
        elif letter == "X" and rest.lstrip("-").isdecimal() and len(rest) < 5:
            status = replace(status, exit_code=int(rest))
        elif letter == "F":
            status = replace(status, failure=rest[:300])
    return status


def box_pid(folder: Path) -> int:
    """PID 1 of the box as bubblewrap noted it; 0 while there is none."""
    try:
        found = re.search(r'"child-pid":\s*(\d+)', _text(folder / "bwrap.json"))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def read_stderr(folder: Path) -> str:
    """What bubblewrap or PID 1 complained about; the last few lines."""
    try:
        return " ".join(_text(folder / "stderr").split())[-400:]
    except OSError:
        return ""


def boot_id() -> str:
    """Changes with every start of the machine; '' where it is not told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def plain_exit(code: int) -> int:
    """An exit code as shells have it: 128 + n for signal n."""
    return code if code >= 0 else 128 - code


def exit_sentence(code: int) -> str:
    """Plain words for an exit code (-n for signal n)."""
    if code == 0:
        return "The app ended by itself (exit code 0). An app has to go on running and answering."
    if code > 0:
        return f"The app ended with exit code {code}. Its log says why."
    try:
        name = signal.Signals(-code).name
        words = signal.strsignal(-code)
    except ValueError:
        name, words = f"signal {-code}", None
    return f"The app was ended by {name}" + (f" ({words.lower()})." if words else ".")


def process_start(pid: int) -> int:
    """When a process began, in kernel ticks since the boot; 0 if there is no such process."""
    try:
        fields_after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields_after_name[19])
    except (OSError, IndexError, ValueError):
        return 0
