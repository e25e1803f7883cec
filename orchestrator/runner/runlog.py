"""Logs of replicas: `logs/runs/<space id>/<replica id>.ndjson`, one JSON object `{"t", "m"}` per line.

PID 1 of the box writes them through a descriptor in append mode. Past its size a log is copied to `.1` and emptied,
which such a writer does not notice.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path

LOG_BYTES_MAX = 4 << 20


def log_path(data: Path, space_id: str, replica_id: str) -> Path:
    return data / "logs" / "runs" / space_id / f"{replica_id}.ndjson"


def open_log(path: Path) -> int:
    """A descriptor in append mode, of a file that only we can read. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def append(path: Path, text: str, now: float) -> None:
    """Add one line of our own. A full disk is no reason to fail."""
    with contextlib.suppress(OSError):
        fd = open_log(path)
        try:
            os.write(fd, (json.dumps({"t": round(now, 3), "m": text}) + "\n").encode())
        finally:
            os.close(fd)


def rotate(path: Path) -> bool:
    """Rotate if it is due."""
    try:
        if path.stat().st_size < LOG_BYTES_MAX:
            return False
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)
    except OSError:
        return False
    return True
